// Kernels with races on shared memory, or that read it before anything was written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"
#include "tests/emulator/bugs.h"

namespace lukv::cuda {

__global__ void MissingBarrierKernel(int* out) {
  LUKV_SHARED(int, values, 64);
  values[threadIdx.x] = 1;                      // BUG
  out[threadIdx.x] = values[63 - threadIdx.x];  // BUG
}

__global__ void MissingSecondBarrierKernel(int* out) {
  LUKV_SHARED(int, value, 1);
  int sum = 0;
  for (int i = 0; i < 3; ++i) {
    if (threadIdx.x == 0) value[0] = i;  // BUG
    __syncthreads();
    sum += value[0];  // BUG
  }
  out[threadIdx.x] = sum;
}

__global__ void ShuffleIsNoFenceKernel(int* out) {
  LUKV_SHARED(int, values, 32);
  values[Lane()] = Lane();  // BUG
  const int other = __shfl_xor_sync(kFullWarp, Lane(), 1);
  out[threadIdx.x] = values[other];  // BUG
}

__global__ void HalfSyncedKernel(int* out) {
  LUKV_SHARED(int, values, 32);
  values[Lane()] = Lane();  // BUG
  __syncwarp(Lane() < 16 ? 0xffffu : 0xffff0000u);
  out[threadIdx.x] = values[Lane() ^ 16];  // BUG
}

__global__ void TwoWritersKernel(int* out) {
  LUKV_SHARED(int, value, 1);
  value[0] = static_cast<int>(threadIdx.x);  // BUG
  __syncthreads();
  out[threadIdx.x] = value[0];
}

__global__ void TwoWritersOfHalvesKernel(int* out) {
  LUKV_SHARED(__nv_bfloat16, values, 65);
  // Neighbours write the halves of a word, which is fine but for the last.
  if (threadIdx.x < 63) values[threadIdx.x] = FromFloat<__nv_bfloat16>(1);  // BUG
  if (threadIdx.x == 63) values[62] = FromFloat<__nv_bfloat16>(2);          // BUG
  __syncthreads();
  out[threadIdx.x] = static_cast<int>(ToFloat(values[0]));
}

__global__ void PlainReadOfAtomicKernel(int* out) {
  LUKV_SHARED(int, count, 1);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  atomicAdd(count, 1);          // BUG
  out[threadIdx.x] = count[0];  // BUG
}

__global__ void UninitialisedKernel(float* out) {
  LUKV_DYNAMIC_SHARED(float, values);
  if (threadIdx.x < 31) values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];  // BUG
}

// Asynchronous copies.

__global__ void MissingWaitKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 128);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x);
  AsyncCommit();
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];  // BUG
}

__global__ void MissingCommitKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 128);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x);
  AsyncWait<0>();
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];  // BUG
}

__global__ void WaitForTheWrongGroupKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 256);
  for (int stage = 0; stage < 2; ++stage) {
    AsyncCopy16(tile + 128 * stage + 4 * threadIdx.x, in + 4 * threadIdx.x);
    AsyncCommit();
  }
  AsyncWait<1>();
  __syncthreads();
  out[threadIdx.x] = tile[128 + threadIdx.x];  // BUG
}

__global__ void WaitWithoutBarrierKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 128);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x);  // BUG
  AsyncCommit();
  AsyncWait<0>();
  out[threadIdx.x] = tile[127 - threadIdx.x];  // BUG
}

__global__ void CopyOverReadersKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 128);
  tile[4 * threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[4 * (31 - threadIdx.x)];            // BUG
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x);  // BUG
  AsyncCommit();
  AsyncWait<0>();
}

__global__ void MatricesOfOthersKernel(uint32_t* out) {
  LUKV_SHARED(uint32_t, tile, 128);
  tile[threadIdx.x] = 0;
  for (int i = 1; i < 4; ++i) tile[32 * i + static_cast<int>(threadIdx.x)] = 0;  // BUG
  uint32_t r[4];
  LoadMatrices(r, tile + 4 * threadIdx.x);  // BUG
  out[threadIdx.x] = r[0];
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

TEST(RaceTest, Threads) {
  const auto out = Zeros<int>(64);
  const auto race = HasSubstr("race on shared memory");
  // A reader that comes first finds nothing yet.
  const auto either = AnyOf(race, HasSubstr("reads uninitialised shared memory"));
  LUKV_EXPECT_FOUND(MissingBarrierKernel, either, cudaErrorLaunchFailure, 64, 0, out.get());
  LUKV_EXPECT_FOUND(MissingSecondBarrierKernel, either, cudaErrorLaunchFailure, 64, 0, out.get());
  LUKV_EXPECT_FOUND(ShuffleIsNoFenceKernel, either, cudaErrorLaunchFailure, 32, 0, out.get());
  LUKV_EXPECT_FOUND(HalfSyncedKernel, either, cudaErrorLaunchFailure, 32, 0, out.get());
  LUKV_EXPECT_FOUND(TwoWritersKernel, race, cudaErrorLaunchFailure, 64, 0, out.get());
  LUKV_EXPECT_FOUND(TwoWritersOfHalvesKernel, race, cudaErrorLaunchFailure, 64, 0, out.get());
  LUKV_EXPECT_FOUND(PlainReadOfAtomicKernel, race, cudaErrorLaunchFailure, 64, 0, out.get());
}

TEST(RaceTest, Uninitialised) {
  const auto out = Zeros<float>(32);
  LUKV_EXPECT_FOUND(UninitialisedKernel, HasSubstr("reads uninitialised shared memory"), cudaErrorLaunchFailure, 32,
                    128, out.get());
}

TEST(RaceTest, AsyncCopies) {
  const auto in = Zeros<float>(128);
  const auto out = Zeros<float>(32);
  const auto words = Zeros<uint32_t>(32);
  const auto pending = HasSubstr("may still be writing: AsyncWait is missing");
  LUKV_EXPECT_FOUND(MissingWaitKernel, pending, cudaErrorLaunchFailure, 32, 0, in.get(), out.get());
  LUKV_EXPECT_FOUND(MissingCommitKernel, pending, cudaErrorLaunchFailure, 32, 0, in.get(), out.get());
  LUKV_EXPECT_FOUND(WaitForTheWrongGroupKernel, pending, cudaErrorLaunchFailure, 32, 0, in.get(), out.get());
  // Another thread's copy may be on its way, landed, or not even asked for.
  LUKV_EXPECT_FOUND(WaitWithoutBarrierKernel, HasSubstr("shared memory"), cudaErrorLaunchFailure, 32, 0, in.get(),
                    out.get());
  LUKV_EXPECT_FOUND(CopyOverReadersKernel, HasSubstr("shared memory"), cudaErrorLaunchFailure, 32, 0, in.get(),
                    out.get());
  LUKV_EXPECT_FOUND(MatricesOfOthersKernel, HasSubstr("shared memory"), cudaErrorLaunchFailure, 32, 0, words.get());
}

}  // namespace
}  // namespace lukv::emulator
