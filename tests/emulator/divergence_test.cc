// Kernels whose threads do not do together what they must.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"
#include "tests/emulator/bugs.h"

namespace lukv::cuda {

__global__ void DivergentBarrierKernel(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();  // BUG
    out[threadIdx.x] = 1;
  } else {
    __syncthreads();  // BUG
    out[threadIdx.x] = 2;
  }
}

__global__ void BarrierAndShuffleKernel(float* out) {
  float value = 1;
  if (threadIdx.x % 32 == 5) {
    __syncthreads();
  } else {
    value = __shfl_sync(kFullWarp, value, 0);  // BUG
  }
  out[threadIdx.x] = value;
}

__global__ void AbsentLaneKernel(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x < 16) value = __shfl_xor_sync(kFullWarp, value, 1);  // BUG
  out[threadIdx.x] = value;
}

__global__ void ExitedLaneKernel(unsigned* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = __ballot_sync(kFullWarp, 1);  // BUG
}

__global__ void OtherMaskKernel(int* out) {
  const unsigned mask = threadIdx.x == 3 ? 0xffu : kFullWarp;
  out[threadIdx.x] = __shfl_sync(mask, 1, 0);  // BUG
}

__global__ void NotInMaskKernel(int* out) {
  out[threadIdx.x] = __any_sync(0xfffffffeu, 1);  // BUG
}

__global__ void ShuffleFromOutsideKernel(int* out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_down_sync(0xffffu, 1, 1);  // BUG
}

__global__ void DivergentMmaKernel(float* out) {
  float d[4] = {};
  const uint32_t a[4] = {};
  const uint32_t b[2] = {};
  if (threadIdx.x != 9) MultiplyAdd(d, a, b);  // BUG
  out[threadIdx.x] = d[0];
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::HasSubstr;

TEST(DivergenceTest, Barriers) {
  const auto out = Zeros<float>(64);
  LUKV_EXPECT_FOUND(DivergentBarrierKernel, HasSubstr("different barriers"), cudaErrorLaunchFailure, 64, 0, out.get());
  LUKV_EXPECT_FOUND(BarrierAndShuffleKernel, HasSubstr("lane 5 of its mask waits at the barrier"),
                    cudaErrorLaunchFailure, 64, 0, out.get());
}

TEST(DivergenceTest, WarpOperations) {
  const auto out = Zeros<int>(32);
  const auto votes = Zeros<unsigned>(32);
  const auto sums = Zeros<float>(32);
  LUKV_EXPECT_FOUND(AbsentLaneKernel, HasSubstr("shuffle waits for ever: lane 16 of its mask has exited"),
                    cudaErrorLaunchFailure, 32, 0, out.get());
  LUKV_EXPECT_FOUND(ExitedLaneKernel, HasSubstr("vote waits for ever: lane 7 of its mask has exited"),
                    cudaErrorLaunchFailure, 32, 0, votes.get());
  LUKV_EXPECT_FOUND(OtherMaskKernel, HasSubstr("gave another mask"), cudaErrorLaunchFailure, 32, 0, out.get());
  LUKV_EXPECT_FOUND(NotInMaskKernel, HasSubstr("not in its mask"), cudaErrorLaunchFailure, 32, 0, out.get());
  LUKV_EXPECT_FOUND(ShuffleFromOutsideKernel, HasSubstr("reads lane 16"), cudaErrorLaunchFailure, 32, 0, out.get());
  LUKV_EXPECT_FOUND(DivergentMmaKernel, HasSubstr("mma waits for ever: lane 9 of its mask has exited"),
                    cudaErrorLaunchFailure, 32, 0, sums.get());
}

}  // namespace
}  // namespace lukv::emulator
