// cp.async: copies from global to shared memory that run beside the thread's other work. What was copied may be read
// only after AsyncWait in the thread that asked for it, and after a barrier in others. The emulator writes to shared
// memory no earlier than in AsyncWait.
#pragma once

#include "kernels/cuda/device.h"

namespace lukv::cuda {

#ifdef LUKV_CUDA_EMULATED
using emulator::AsyncCommit;
using emulator::AsyncCopy16;
using emulator::AsyncWait;
#else

// 16 bytes, both sides 16-byte aligned; with valid == false writes zeros and reads nothing.
LUKV_DEVICE void AsyncCopy16(void* shared, const void* global, bool valid = true) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(valid ? 16 : 0)
      : "memory");
}
// The copies asked for since the last commit form a group.
LUKV_DEVICE void AsyncCommit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most `kPending` of the thread's latest groups are still under way.
template <int kPending>
LUKV_DEVICE void AsyncWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}
#endif

}  // namespace lukv::cuda
