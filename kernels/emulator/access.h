// The check of every access to memory that a kernel makes. The compiler calls it for the kernels' own loads and stores
// (hooks.cc), the emulator for those that it makes on their behalf.
//
// With AddressSanitizer its own checks take the place of these: the compiler can insert only one kind.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/emulator/memory.h"
#include "kernels/emulator/shared_memory.h"

namespace lukv::emulator {

// The stack of the thread whose kernel code runs; empty while the emulator or the host works. (Whatever the emulator
// shares with kernels' files, templates of the standard library say, may be linked from there, with checks in it.)
struct RunningStack {
  uintptr_t low = 0;
  size_t bytes = 0;
};
extern RunningStack running_stack __attribute__((visibility("hidden")));
// Of the thread whose turn it is, whether or not its kernel code runs.
extern RunningStack current_stack __attribute__((visibility("hidden")));

// First in every function that kernels call: until it returns its code is not the kernel's.
class OutsideKernel {
 public:
  OutsideKernel() { running_stack = {}; }
  ~OutsideKernel() { running_stack = current_stack; }
  OutsideKernel(const OutsideKernel&) = delete;
  OutsideKernel& operator=(const OutsideKernel&) = delete;
};

// Where the common cases end: finds out whether the access is allowed after all, or what is wrong with it.
void CheckOther(Access access, uintptr_t address, size_t bytes, const void* return_address);

// Any range, any alignment.
void CheckRange(Access access, uintptr_t address, size_t bytes, const void* return_address);

// For code on the stack of a kernel's thread. An access of kBytes, a power of two up to 16, that must be aligned.
// `return_address` is in the kernel.
template <Access kAccess, unsigned kBytes>
inline __attribute__((always_inline)) void Check(uintptr_t address, const void* return_address) {
  if (address - running_stack.low < running_stack.bytes) return;
  if ((address & (kBytes - 1)) == 0) {
    const uintptr_t device = address - device_pages.base;
    if (device < kDeviceSpan) {
      if ((device & (kPageBytes - 1)) + kBytes <= device_pages.valid[device >> kPageShift]) return;
    } else if (const uintptr_t shared = address - SharedBase(); shared < kSharedSpan) {
      if (SharedAllows<kAccess, kBytes>(shared, return_address)) return;
    }
  }
  CheckOther(kAccess, address, kBytes, return_address);
}

}  // namespace lukv::emulator
