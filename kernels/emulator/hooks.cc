// What g++ -fsanitize=thread makes kernels call before they touch memory (the interface of GCC's libtsan, which is not
// linked): only its instrumentation is wanted. Code that is not a kernel's passes through.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/emulator/access.h"

namespace lukv::emulator {
namespace {

// Another thread of the program may run instrumented host code meanwhile: its stack tells.
inline __attribute__((always_inline)) bool InKernel() {
  return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - running_stack.low < running_stack.bytes;
}

}  // namespace
}  // namespace lukv::emulator

using lukv::emulator::Access;
using lukv::emulator::Check;
using lukv::emulator::CheckRange;
using lukv::emulator::InKernel;

#define LUKV_HOOK(name, access, bytes)                                                                      \
  extern "C" void __tsan_##name##bytes(void* address) {                                                     \
    if (InKernel()) {                                                                                       \
      Check<Access::access, bytes>(reinterpret_cast<uintptr_t>(address), __builtin_return_address(0));      \
    }                                                                                                       \
  }                                                                                                         \
  extern "C" void __tsan_unaligned_##name##bytes(void* address) {                                           \
    if (InKernel()) {                                                                                       \
      CheckRange(Access::access, reinterpret_cast<uintptr_t>(address), bytes, __builtin_return_address(0)); \
    }                                                                                                       \
  }
LUKV_HOOK(read, kRead, 1)
LUKV_HOOK(read, kRead, 2)
LUKV_HOOK(read, kRead, 4)
LUKV_HOOK(read, kRead, 8)
LUKV_HOOK(read, kRead, 16)
LUKV_HOOK(write, kWrite, 1)
LUKV_HOOK(write, kWrite, 2)
LUKV_HOOK(write, kWrite, 4)
LUKV_HOOK(write, kWrite, 8)
LUKV_HOOK(write, kWrite, 16)
#undef LUKV_HOOK

extern "C" {

void __tsan_read_range(void* address, size_t bytes) {
  if (InKernel()) CheckRange(Access::kRead, reinterpret_cast<uintptr_t>(address), bytes, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  if (InKernel()) CheckRange(Access::kWrite, reinterpret_cast<uintptr_t>(address), bytes, __builtin_return_address(0));
}

// What host code in the same files comes to use: guards of static variables, counts of shared pointers. Kernels use
// CUDA's atomics.
#define LUKV_ATOMIC_HOOKS(bits)                                                                             \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* address, int /*order*/) {        \
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                         \
  void __tsan_atomic##bits##_store(volatile uint##bits##_t* address, uint##bits##_t value, int /*order*/) { \
    __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                                     \
  }                                                                                                         \
  uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile uint##bits##_t* address, uint##bits##_t value,    \
                                                 int /*order*/) {                                           \
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                         \
  uint##bits##_t __tsan_atomic##bits##_fetch_sub(volatile uint##bits##_t* address, uint##bits##_t value,    \
                                                 int /*order*/) {                                           \
    return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);                                            \
  }
LUKV_ATOMIC_HOOKS(8)
LUKV_ATOMIC_HOOKS(32)
LUKV_ATOMIC_HOOKS(64)
#undef LUKV_ATOMIC_HOOKS

void __tsan_init() {}
void __tsan_vptr_update(void** /*object*/, void* /*table*/) {}

}  // extern "C"
