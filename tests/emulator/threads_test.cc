// What threads of a block do together: barriers, warp operations, atomics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/launch.h"
#include "tests/emulator/device_array.h"

namespace lukv::cuda {

__global__ void BlockSumKernel(const float* x, float* out, int n) {
  LUKV_SHARED(float, partial, 1024);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += x[blockIdx.x * n + i];
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = partial[0];
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

TEST(Threads, BlockSum) {
  std::vector<float> x(3 * 1000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  const DeviceArray<float> in(x);
  const DeviceArray<float> out(std::vector<float>(3, 0.0f));
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::BlockSumKernel, 3, 256, 0, in.get(), out.get(), 1000), cudaSuccess);
  std::vector<float> expected(3, 0.0f);
  for (size_t i = 0; i < x.size(); ++i) expected[i / 1000] += x[i];
  EXPECT_EQ(out.Read(), expected);
}

}  // namespace
}  // namespace lukv::emulator
