// The CUDA language for kernels that g++ compiles (kernels/cuda/device.h includes it). What nvcc knows by itself is
// declared here and defined by the emulator; a thread of a block is a fiber.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/emulator/atomics.h"
#include "kernels/emulator/intrinsics.h"
#include "kernels/emulator/site.h"
#include "kernels/emulator/warp.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

// Constant for as long as a thread lives, so a kernel may keep them in registers; set by the scheduler. (Sizes are no
// dim3: that has a constructor, so that the compiler would take reading it for an access to memory.)
extern const uint3 threadIdx __asm__("lukv_emulator_thread_index");
extern const uint3 blockIdx __asm__("lukv_emulator_block_index");
extern const uint3 blockDim __asm__("lukv_emulator_block_size");
extern const uint3 gridDim __asm__("lukv_emulator_grid_size");
inline constexpr int warpSize = 32;

namespace lukv::emulator {

// One array in the static shared memory of a block: a function's variable of static storage stands for it, so that
// every instantiation of a template has its own, as with nvcc.
class SharedVariable {
 public:
  constexpr explicit SharedVariable(size_t bytes) : bytes_(bytes) {}
  // Its place in the running block.
  void* Address(Site site = Site::current());

 private:
  const size_t bytes_;
  uint64_t launch_ = 0;  // The launch that `address_` belongs to.
  void* address_ = nullptr;
};

void* DynamicShared();

// The bodies of kernels/cuda/mma.h and async_copy.h.
void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current());
void LoadMatrices(uint32_t (&r)[4], const void* row, Site site = Site::current());
void LoadMatricesTransposed(uint32_t (&r)[4], const void* row, Site site = Site::current());
void AsyncCopy16(void* shared, const void* global, bool valid = true, Site site = Site::current());
void AsyncCommit();
void AsyncWaitGroups(int pending);
template <int kPending>
void AsyncWait() {
  AsyncWaitGroups(kPending);
}

}  // namespace lukv::emulator

#define LUKV_SHARED(type, name, count)                                                          \
  static constinit ::lukv::emulator::SharedVariable lukv_shared_##name{sizeof(type) * (count)}; \
  type* const name = static_cast<type*>(lukv_shared_##name.Address())
#define LUKV_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::lukv::emulator::DynamicShared())
