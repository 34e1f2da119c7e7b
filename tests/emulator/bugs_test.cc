// Kernels with one bug each: the emulator must find it, whatever order the threads run in, and name the kernel and the
// line. Lines that may be named end in the comment "BUG".
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"
#include "kernels/emulator/control.h"
#include "kernels/emulator/memory.h"
#include "kernels/emulator/report.h"
#include "tests/emulator/device_array.h"

namespace lukv::cuda {

// Threads that go on without the others.

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

// Shared memory.

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

__global__ void SharedOutOfBoundsKernel(int* out) {
  LUKV_SHARED(int, first, 32);
  LUKV_SHARED(int, second, 32);
  second[threadIdx.x] = 0;
  first[threadIdx.x + 1] = 0;  // BUG
  __syncthreads();
  out[threadIdx.x] = second[threadIdx.x];
}

__global__ void DynamicOutOfBoundsKernel(int* out) {
  LUKV_DYNAMIC_SHARED(char, bytes);
  bytes[threadIdx.x] = 0;  // BUG
  out[threadIdx.x] = 0;
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

__global__ void MisalignedCopyKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 256);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x + 1);  // BUG
  AsyncCommit();
  AsyncWait<0>();
  out[threadIdx.x] = tile[4 * threadIdx.x];
}

__global__ void CopyFromOutsideKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 256);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x + 4);  // BUG
  AsyncCommit();
  AsyncWait<0>();
  out[threadIdx.x] = tile[4 * threadIdx.x];
}

__global__ void MatricesOfOthersKernel(uint32_t* out) {
  LUKV_SHARED(uint32_t, tile, 128);
  tile[threadIdx.x] = 0;
  for (int i = 1; i < 4; ++i) tile[32 * i + static_cast<int>(threadIdx.x)] = 0;  // BUG
  uint32_t r[4];
  LoadMatrices(r, tile + 4 * threadIdx.x);  // BUG
  out[threadIdx.x] = r[0];
}

// Global memory.

__global__ void ReadPastTheEndKernel(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x + 1];  // BUG
}

__global__ void WritePastTheEndKernel(float* out, int n) {
  if (static_cast<int>(threadIdx.x) <= n) out[threadIdx.x] = 1;  // BUG
}

__global__ void ReadBeforeTheStartKernel(const float* in, float* out) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) - 1];  // BUG
}

__global__ void AtomicPastTheEndKernel(unsigned* out) {
  atomicAdd(out + 32 * threadIdx.x, 1u);  // BUG
}

struct alignas(16) BugVector {
  float values[4];
};
__global__ void MisalignedVectorKernel(const float* in, BugVector* out) {
  out[threadIdx.x] = *reinterpret_cast<const BugVector*>(in + threadIdx.x);  // BUG
}

// Reads what `in` points to, which lies in the host's memory for the test, or is freed or null.
__global__ void ReadElsewhereKernel(const float* in, float* out) {
  out[threadIdx.x] = *in;  // BUG
}
__global__ void WriteElsewhereKernel(float* out) {
  *out = 1;  // BUG
}
__global__ void LocalOfAnotherThreadKernel(float* out) {
  LUKV_SHARED(float*, pointers, 32);
  float local[2] = {1, static_cast<float>(threadIdx.x)};
  pointers[threadIdx.x] = local;
  __syncthreads();
  out[threadIdx.x] = pointers[threadIdx.x ^ 1][1];  // BUG
  __syncthreads();
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int kSeeds = 8;

// The lines of the kernel that are marked.
std::set<int> MarkedLines(const std::string& kernel) {
  std::ifstream file(LUKV_TEST_DATA "/emulator/bugs_test.cc");
  std::set<int> lines;
  bool inside = false;
  std::string text;
  for (int line = 1; std::getline(file, text); ++line) {
    if (text.starts_with("__global__")) inside = text.find(kernel + "(") != std::string::npos;
    if (text.starts_with("}")) inside = false;
    if (inside && text.ends_with("// BUG")) lines.insert(line);
  }
  return lines;
}

// Runs the kernel with several orders of its threads. Its report must name a marked line and say `what`.
template <typename... Parameters, typename... Arguments>
void ExpectFound(const std::string& name, const ::testing::Matcher<std::string>& what, cudaError_t error,
                 unsigned threads, size_t shared_bytes, void (*kernel)(Parameters...), Arguments... arguments) {
  const std::set<int> marked = MarkedLines(name);
  ASSERT_FALSE(marked.empty()) << name;
  for (unsigned seed = 1; seed <= kSeeds; ++seed) {
    lukv_emulator_set_seed(seed);
    ASSERT_EQ(cuda::Launch(nullptr, kernel, 1, threads, shared_bytes, arguments...), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), error);
    EXPECT_EQ(cudaDeviceSynchronize(), error) << "the context is lost";
    const Report report = LastReport();
    EXPECT_THAT(report.what, what);
    EXPECT_THAT(report.kernel, HasSubstr(name));
    EXPECT_THAT(lukv_emulator_last_report(), AllOf(HasSubstr(name), HasSubstr("tests/emulator/bugs_test.cc:")));
    ASSERT_FALSE(report.frames.empty()) << report.what;
    EXPECT_EQ(report.frames.front().file, "tests/emulator/bugs_test.cc");
    EXPECT_THAT(marked, Contains(report.frames.front().line));
    lukv_emulator_clear_error();
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
}
#define LUKV_EXPECT_FOUND(kernel, what, error, threads, shared_bytes, ...) \
  ExpectFound(#kernel, what, error, threads, shared_bytes, &cuda::kernel, __VA_ARGS__)

template <typename T>
DeviceArray<T> Zeros(size_t n) {
  return DeviceArray<T>(std::vector<T>(n));
}

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

TEST(SharedMemoryTest, Races) {
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

TEST(SharedMemoryTest, OtherBugs) {
  const auto sums = Zeros<float>(32);
  const auto out = Zeros<int>(32);
  LUKV_EXPECT_FOUND(UninitialisedKernel, HasSubstr("reads uninitialised shared memory"), cudaErrorLaunchFailure, 32,
                    128, sums.get());
  LUKV_EXPECT_FOUND(SharedOutOfBoundsKernel, HasSubstr("out of bounds of the block's shared arrays"),
                    cudaErrorIllegalAddress, 32, 0, out.get());
  LUKV_EXPECT_FOUND(DynamicOutOfBoundsKernel, HasSubstr("out of bounds of the block's shared arrays"),
                    cudaErrorIllegalAddress, 32, 31, out.get());
}

TEST(AsyncCopyTest, Bugs) {
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
  LUKV_EXPECT_FOUND(MisalignedCopyKernel, HasSubstr("misaligned"), cudaErrorIllegalAddress, 32, 0, in.get(), out.get());
  LUKV_EXPECT_FOUND(CopyFromOutsideKernel, HasSubstr("0 bytes past the end of an allocation of 512"),
                    cudaErrorIllegalAddress, 32, 0, in.get(), out.get());
  LUKV_EXPECT_FOUND(MatricesOfOthersKernel, HasSubstr("shared memory"), cudaErrorLaunchFailure, 32, 0, words.get());
}

TEST(GlobalMemoryTest, Bounds) {
  const auto in = Zeros<float>(32);
  const auto out = Zeros<float>(32);
  const auto counts = Zeros<unsigned>(32);
  const auto vectors = Zeros<cuda::BugVector>(8);
  const auto past = HasSubstr("0 bytes past the end of an allocation of 128 bytes");
  LUKV_EXPECT_FOUND(ReadPastTheEndKernel, AllOf(HasSubstr("reads 4 bytes"), past), cudaErrorIllegalAddress, 32, 0,
                    in.get(), out.get());
  LUKV_EXPECT_FOUND(WritePastTheEndKernel, AllOf(HasSubstr("writes 4 bytes"), past), cudaErrorIllegalAddress, 64, 0,
                    out.get(), 32);
  LUKV_EXPECT_FOUND(ReadBeforeTheStartKernel, HasSubstr("out of bounds"), cudaErrorIllegalAddress, 32, 0, in.get(),
                    out.get());
  LUKV_EXPECT_FOUND(AtomicPastTheEndKernel, HasSubstr("atomically updates 4 bytes"), cudaErrorIllegalAddress, 2, 0,
                    counts.get());
  LUKV_EXPECT_FOUND(MisalignedVectorKernel, HasSubstr("misaligned"), cudaErrorIllegalAddress, 8, 0, in.get(),
                    vectors.get());
}

TEST(GlobalMemoryTest, NotTheDevices) {
  const auto out = Zeros<float>(32);
  std::vector<float> host(32);
  LUKV_EXPECT_FOUND(ReadElsewhereKernel, HasSubstr(": host memory"), cudaErrorIllegalAddress, 32, 0, host.data(),
                    out.get());
  LUKV_EXPECT_FOUND(WriteElsewhereKernel, HasSubstr(": host memory"), cudaErrorIllegalAddress, 32, 0, host.data());
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 128), cudaSuccess);
  LUKV_EXPECT_FOUND(ReadElsewhereKernel, HasSubstr("pinned host memory"), cudaErrorIllegalAddress, 32, 0,
                    static_cast<float*>(pinned), out.get());
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  LUKV_EXPECT_FOUND(ReadElsewhereKernel, HasSubstr("null pointer"), cudaErrorIllegalAddress, 32, 0, nullptr, out.get());
  LUKV_EXPECT_FOUND(LocalOfAnotherThreadKernel, HasSubstr("local memory of another thread"), cudaErrorIllegalAddress,
                    32, 0, out.get());
}

TEST(GlobalMemoryTest, Freed) {
  const auto out = Zeros<float>(32);
  void* freed = nullptr;
  ASSERT_EQ(cudaMalloc(&freed, 4096), cudaSuccess);
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  LUKV_EXPECT_FOUND(ReadElsewhereKernel, HasSubstr("40 bytes into freed memory of 4096 bytes"), cudaErrorIllegalAddress,
                    32, 0, static_cast<float*>(freed) + 10, out.get());
}

}  // namespace
}  // namespace lukv::emulator
