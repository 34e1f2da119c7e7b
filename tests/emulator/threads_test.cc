// What threads of a block do together where they do it right: barriers, warp operations, atomics, shared memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/launch.h"
#include "kernels/emulator/control.h"
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

// out[4, threads]: up, down, xor, index.
__global__ void ShuffleKernel(int* out, int argument, int width) {
  const int value = 100 + static_cast<int>(threadIdx.x);
  const int n = static_cast<int>(blockDim.x);
  int* const mine = out + threadIdx.x;
  mine[0] = __shfl_up_sync(kFullWarp, value, static_cast<unsigned>(argument), width);
  mine[n] = __shfl_down_sync(kFullWarp, value, static_cast<unsigned>(argument), width);
  mine[2 * n] = __shfl_xor_sync(kFullWarp, value, argument, width);
  mine[3 * n] = __shfl_sync(kFullWarp, value, argument, width);
}

__global__ void ShuffleTypesKernel(double* doubles, __nv_bfloat16* halves, unsigned long long* words) {
  doubles[threadIdx.x] = __shfl_xor_sync(kFullWarp, 0.5 + threadIdx.x, 1);
  halves[threadIdx.x] = __shfl_xor_sync(kFullWarp, FromFloat<__nv_bfloat16>(static_cast<float>(threadIdx.x)), 1);
  words[threadIdx.x] = __shfl_xor_sync(kFullWarp, (1ull << 40) + threadIdx.x, 1);
}

__global__ void WarpReductionKernel(float* sums, float* maxima) {
  const float value = static_cast<float>((threadIdx.x * 37) % 64);
  sums[threadIdx.x] = WarpSum(value);
  maxima[threadIdx.x] = WarpMax(value);
}

// Even and odd lanes vote on their own, at the same time.
__global__ void VoteKernel(unsigned* ballots, int* any, int* all) {
  const unsigned mask = threadIdx.x % 2 == 0 ? 0x55555555u : 0xaaaaaaaau;
  ballots[threadIdx.x] = __ballot_sync(mask, threadIdx.x % 3 == 0);
  any[threadIdx.x] = __any_sync(mask, threadIdx.x == 4);
  all[threadIdx.x] = __all_sync(mask, threadIdx.x % 2 == 0);
}

// Half of a warp does more than the other half before all meet.
__global__ void HalvesThenAllKernel(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x < 16) {
    for (int i = 0; i < 5; ++i) value = __shfl_xor_sync(0xffffu, value, 1);
  }
  out[threadIdx.x] = __shfl_xor_sync(kFullWarp, value, 16);
}

// Threads that have ended do not hold up the others.
__global__ void EarlyExitKernel(int* out) {
  LUKV_SHARED(int, values, 128);
  if (threadIdx.x % 2 == 1) return;
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = round;
    __syncthreads();
    out[threadIdx.x] += values[(threadIdx.x + 2) % blockDim.x];
    __syncthreads();
  }
}

__global__ void AtomicsKernel(int* ints, unsigned* words, unsigned long long* wide, float* floats) {
  LUKV_SHARED(int, count, 1);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x);
  atomicAdd(count, 1);
  atomicAdd(ints + 0, i);
  atomicSub(ints + 1, 1);
  atomicMax(ints + 2, i - 10);
  atomicMin(ints + 3, -i);
  atomicAdd(words + 0, 2u);
  atomicOr(words + 1, 1u << (i % 32));
  atomicAnd(words + 2, ~(1u << (i % 32)));
  atomicXor(words + 3, 1u << (i % 32));
  atomicMax(words + 4, threadIdx.x);
  atomicMin(words + 5, threadIdx.x);
  atomicAdd(wide, 1ull << 33);
  atomicAdd(floats, 0.5f);
  // A lock: one after the other adds to an ordinary number.
  int seen = ints[4];
  while (true) {
    const int before = atomicCAS(ints + 4, seen, seen + 1);
    if (before == seen) break;
    seen = before;
  }
  __syncthreads();
  if (threadIdx.x == 0) ints[5] = atomicExch(count, -1);
}

// out[block, thread] = the place of the thread in the order of the block's threads.
__global__ void TicketKernel(int* out) {
  LUKV_SHARED(int, next, 1);
  if (threadIdx.x == 0) next[0] = 0;
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
}

// places[block] = its place in the order of the blocks.
__global__ void BlockOrderKernel(int* next, int* places) { places[blockIdx.x] = atomicAdd(next, 1); }

__global__ void IndicesKernel(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * (blockDim.x * blockDim.y * blockDim.z) + thread] += 1;
}

// Lanes pass values on through shared memory, with nothing but __syncwarp between.
__global__ void SyncWarpKernel(int* out) {
  LUKV_SHARED(int, values, 64);
  const int base = Warp() * kWarp;
  for (int round = 0; round < 4; ++round) {
    values[base + Lane()] = Lane() + round;
    __syncwarp();
    out[threadIdx.x] += values[base + (Lane() + 1) % kWarp];
    __syncwarp();
  }
}

// Groups of eight meet on their own; then what lane 0 wrote reaches lane 31 by way of others.
__global__ void PartialSyncWarpKernel(int* out) {
  LUKV_SHARED(int, values, 32);
  const unsigned group = 0xffu << (Lane() / 8 * 8);
  values[Lane()] = Lane();
  __syncwarp(group);
  int sum = values[Lane() ^ 7];
  for (int first = 0; first < 24; first += 8) {
    const unsigned neighbours = 0xffffu << first;
    if ((neighbours >> Lane() & 1) != 0) __syncwarp(neighbours);
  }
  if (Lane() == 31) sum += 100 * values[1];
  out[threadIdx.x] = sum;
}

// The same array for all that call it, its own for each type.
template <typename T>
LUKV_DEVICE T NeighbourThroughShared(T value) {
  LUKV_SHARED(T, values, 64);
  values[threadIdx.x] = value;
  __syncthreads();
  const T neighbour = values[(threadIdx.x + 1) % blockDim.x];
  __syncthreads();
  return neighbour;
}
__global__ void SharedOfFunctionsKernel(double* out) {
  const int first = NeighbourThroughShared(static_cast<int>(threadIdx.x));
  const double second = NeighbourThroughShared(0.25 + first);
  const int third = NeighbourThroughShared(first);
  out[threadIdx.x] = second + 1000 * third;
}

// Neighbouring threads write neighbouring bytes and halves of words.
__global__ void SmallTypesKernel(unsigned char* out) {
  LUKV_SHARED(unsigned char, bytes, 96);
  LUKV_SHARED(__nv_bfloat16, halves, 96);
  bytes[threadIdx.x] = static_cast<unsigned char>(threadIdx.x);
  halves[threadIdx.x] = FromFloat<__nv_bfloat16>(1);
  __syncthreads();
  out[threadIdx.x] = static_cast<unsigned char>(bytes[95 - threadIdx.x] + ToFloat(halves[95 - threadIdx.x]));
}

struct BigArgument {
  int values[100];
};
__global__ void ArgumentsKernel(BigArgument argument, int* out) {
  constexpr int kTable[4] = {5, 6, 7, 8};
  out[threadIdx.x] = argument.values[threadIdx.x] + kTable[threadIdx.x % 4];
}

// Three tiles in turn, each copied while the one before it is used; the last rows are beyond the end.
__global__ void PipelineKernel(const float* in, float* out, int n) {
  constexpr int kTile = 128;
  LUKV_DYNAMIC_SHARED(float, tiles);
  const int n_tiles = (n + kTile - 1) / kTile;
  const auto copy = [&](int tile) {
    const int at = tile * kTile + static_cast<int>(threadIdx.x) * 4;
    if (tile < n_tiles) AsyncCopy16(tiles + tile % 3 * kTile + threadIdx.x * 4, in + at, at < n);
    AsyncCommit();
  };
  copy(0);
  copy(1);
  float sum = 0;
  for (int tile = 0; tile < n_tiles; ++tile) {
    AsyncWait<1>();
    __syncthreads();
    copy(tile + 2);
    for (int i = 0; i < 4; ++i) sum += tiles[tile % 3 * kTile + i * 32 + static_cast<int>(threadIdx.x)];
  }
  out[threadIdx.x] = sum;
}

__global__ void PoisonKernel(unsigned* out) {
  LUKV_SHARED(unsigned, words, 32);
  LUKV_DYNAMIC_SHARED(unsigned, more);
  out[2 * threadIdx.x] = words[threadIdx.x];
  out[2 * threadIdx.x + 1] = more[threadIdx.x];
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

template <typename T>
DeviceArray<T> Filled(size_t n, T value) {
  return DeviceArray<T>(std::vector<T>(n, value));
}

class ThreadsTest : public ::testing::TestWithParam<unsigned> {
 protected:
  ThreadsTest() { lukv_emulator_set_seed(GetParam()); }
  ~ThreadsTest() override { EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << lukv_emulator_last_report(); }
};
INSTANTIATE_TEST_SUITE_P(Seeds, ThreadsTest, ::testing::Range(1u, 6u));

TEST_P(ThreadsTest, BlockSum) {
  std::vector<float> x(3 * 1000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  std::vector<float> expected(3, 0.0f);
  for (size_t i = 0; i < x.size(); ++i) expected[i / 1000] += x[i];
  const DeviceArray<float> in(x);
  for (const unsigned threads : {1u, 32u, 256u, 1024u}) {
    const auto out = Filled<float>(3, 0);
    ASSERT_EQ(cuda::Launch(nullptr, &cuda::BlockSumKernel, 3, threads, 0, in.get(), out.get(), 1000), cudaSuccess);
    EXPECT_EQ(out.Read(), expected) << threads;
  }
}

TEST_P(ThreadsTest, Shuffles) {
  constexpr int kThreads = 64;
  for (const int width : {2, 8, 16, 32}) {
    for (const int argument : {0, 1, 3, 7, 16, 31}) {
      const auto out = Filled<int>(4 * kThreads, -1);
      ASSERT_EQ(cuda::Launch(nullptr, &cuda::ShuffleKernel, 1, kThreads, 0, out.get(), argument, width), cudaSuccess);
      const std::vector<int> got = out.Read();
      for (int thread = 0; thread < kThreads; ++thread) {
        const int lane = thread % 32;
        const int warp = thread - lane;
        const int in_group = lane % width;
        const int group = lane - in_group;
        // CUDA C++ programming guide, "Warp Shuffle Functions".
        const int up = in_group >= argument ? lane - argument : lane;
        const int down = in_group + argument < width ? lane + argument : lane;
        const int exclusive = (lane ^ argument) < group + width ? lane ^ argument : lane;
        const int index = group + argument % width;
        const int expected[] = {up, down, exclusive, index};
        for (int kind = 0; kind < 4; ++kind) {
          EXPECT_EQ(got[kind * kThreads + thread], 100 + warp + expected[kind])
              << "kind " << kind << " thread " << thread << " width " << width << " argument " << argument;
        }
      }
    }
  }
}

TEST_P(ThreadsTest, ShufflesOfAllTypes) {
  const auto doubles = Filled<double>(32, 0);
  const auto halves = Filled<__nv_bfloat16>(32, __float2bfloat16(0));
  const auto words = Filled<unsigned long long>(32, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::ShuffleTypesKernel, 1, 32, 0, doubles.get(), halves.get(), words.get()),
            cudaSuccess);
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(doubles.Read()[lane], 0.5 + (lane ^ 1));
    EXPECT_EQ(__bfloat162float(halves.Read()[lane]), static_cast<float>(lane ^ 1));
    EXPECT_EQ(words.Read()[lane], (1ull << 40) + static_cast<unsigned>(lane ^ 1));
  }
}

TEST_P(ThreadsTest, WarpReductions) {
  const auto sums = Filled<float>(128, 0);
  const auto maxima = Filled<float>(128, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::WarpReductionKernel, 1, 128, 0, sums.get(), maxima.get()), cudaSuccess);
  for (int thread = 0; thread < 128; ++thread) {
    float sum = 0;
    float most = 0;
    for (int other = thread / 32 * 32; other < thread / 32 * 32 + 32; ++other) {
      sum += static_cast<float>(other * 37 % 64);
      most = std::max(most, static_cast<float>(other * 37 % 64));
    }
    EXPECT_EQ(sums.Read()[thread], sum);
    EXPECT_EQ(maxima.Read()[thread], most);
  }
}

TEST_P(ThreadsTest, Votes) {
  const auto ballots = Filled<unsigned>(32, 0);
  const auto any = Filled<int>(32, -1);
  const auto all = Filled<int>(32, -1);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::VoteKernel, 1, 32, 0, ballots.get(), any.get(), all.get()), cudaSuccess);
  unsigned expected[2] = {};
  for (unsigned lane = 0; lane < 32; lane += 3) expected[lane % 2] |= 1u << lane;
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(ballots.Read()[lane], expected[lane % 2]);
    EXPECT_EQ(any.Read()[lane] != 0, lane % 2 == 0);
    EXPECT_EQ(all.Read()[lane] != 0, lane % 2 == 0);
  }
}

TEST_P(ThreadsTest, HalvesThenAll) {
  const auto out = Filled<int>(32, -1);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::HalvesThenAllKernel, 1, 32, 0, out.get()), cudaSuccess);
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out.Read()[lane], lane < 16 ? lane + 16 : (lane - 16) ^ 1);
}

TEST_P(ThreadsTest, EarlyExit) {
  const auto out = Filled<int>(100, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::EarlyExitKernel, 1, 100, 0, out.get()), cudaSuccess);
  for (int thread = 0; thread < 100; ++thread) EXPECT_EQ(out.Read()[thread], thread % 2 == 0 ? 3 : 0);
}

TEST_P(ThreadsTest, Atomics) {
  const DeviceArray<int> ints({0, 0, -100, 100, 0, 0});
  const DeviceArray<unsigned> words({0, 0, ~0u, 0, 0, 1000});
  const auto wide = Filled<unsigned long long>(1, 0);
  const auto floats = Filled<float>(1, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::AtomicsKernel, 1, 96, 0, ints.get(), words.get(), wide.get(), floats.get()),
            cudaSuccess);
  EXPECT_THAT(ints.Read(), ElementsAre(95 * 96 / 2, -96, 85, -95, 96, 96));
  EXPECT_THAT(words.Read(), ElementsAre(192, ~0u, 0, ~0u, 95, 0));
  EXPECT_THAT(wide.Read(), ElementsAre(96ull << 33));
  EXPECT_THAT(floats.Read(), ElementsAre(48.0f));
}

TEST_P(ThreadsTest, Indices) {
  const auto out = Filled<int>(2 * 3 * 4 * 5 * 6 * 2, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::IndicesKernel, dim3(2, 3, 4), dim3(5, 6, 2), 0, out.get()), cudaSuccess);
  EXPECT_THAT(out.Read(), Each(1));
}

TEST_P(ThreadsTest, SyncWarpOrdersSharedMemory) {
  const auto out = Filled<int>(64, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::SyncWarpKernel, 1, 64, 0, out.get()), cudaSuccess);
  for (int thread = 0; thread < 64; ++thread) EXPECT_EQ(out.Read()[thread], 4 * ((thread + 1) % 32) + 6);
}

TEST_P(ThreadsTest, SyncWarpOfSomeLanes) {
  const auto out = Filled<int>(32, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::PartialSyncWarpKernel, 1, 32, 0, out.get()), cudaSuccess);
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(out.Read()[lane], (lane ^ 7) + (lane == 31 ? 100 : 0));
}

TEST_P(ThreadsTest, SharedArraysOfFunctions) {
  const auto out = Filled<double>(64, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::SharedOfFunctionsKernel, 1, 64, 0, out.get()), cudaSuccess);
  for (int thread = 0; thread < 64; ++thread) {
    const int third = (thread + 2) % 64;
    EXPECT_EQ(out.Read()[thread], 0.25 + third + 1000 * third);
  }
}

TEST_P(ThreadsTest, BytesAndHalvesOfWords) {
  const auto out = Filled<unsigned char>(96, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::SmallTypesKernel, 1, 96, 0, out.get()), cudaSuccess);
  for (int thread = 0; thread < 96; ++thread) EXPECT_EQ(out.Read()[thread], 96 - thread);
}

TEST_P(ThreadsTest, ArgumentsAndConstants) {
  cuda::BigArgument argument;
  std::iota(std::begin(argument.values), std::end(argument.values), 10);
  const auto out = Filled<int>(100, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::ArgumentsKernel, 1, 100, 0, argument, out.get()), cudaSuccess);
  for (int thread = 0; thread < 100; ++thread) EXPECT_EQ(out.Read()[thread], 10 + thread + 5 + thread % 4);
}

TEST_P(ThreadsTest, PipelineOfAsyncCopies) {
  constexpr int kLength = 5 * 128 + 48;
  std::vector<float> values(kLength);
  std::iota(values.begin(), values.end(), 1.0f);
  const DeviceArray<float> in(values);
  const auto out = Filled<float>(32, 0);
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::PipelineKernel, 1, 32, 3 * 512, in.get(), out.get(), kLength), cudaSuccess);
  std::vector<float> expected(32, 0.0f);
  for (int i = 0; i < kLength; ++i) expected[i % 32] += values[i];
  EXPECT_EQ(out.Read(), expected);
}

std::vector<int> Tickets(unsigned seed) {
  lukv_emulator_set_seed(seed);
  const auto out = Filled<int>(128, -1);
  EXPECT_EQ(cuda::Launch(nullptr, &cuda::TicketKernel, 2, 64, 0, out.get()), cudaSuccess);
  return out.Read();
}

TEST(OrderTest, OfBlocks) {
  std::set<std::vector<int>> orders;
  for (unsigned seed = 1; seed <= 5; ++seed) {
    lukv_emulator_set_seed(seed);
    const auto next = Filled<int>(1, 0);
    const auto places = Filled<int>(10, -1);
    ASSERT_EQ(cuda::Launch(nullptr, &cuda::BlockOrderKernel, 10, 1, 0, next.get(), places.get()), cudaSuccess);
    orders.insert(places.Read());
    EXPECT_EQ(next.Read()[0], 10);
  }
  EXPECT_GT(orders.size(), 1u);
}

TEST(OrderTest, OfThreads) {
  std::set<std::vector<int>> orders;
  for (unsigned seed = 1; seed <= 5; ++seed) {
    EXPECT_EQ(Tickets(seed), Tickets(seed));
    orders.insert(Tickets(seed));
    std::vector<int> sorted = Tickets(seed);
    std::sort(sorted.begin(), sorted.begin() + 64);
    for (int i = 0; i < 64; ++i) EXPECT_EQ(sorted[i], i);
  }
  EXPECT_EQ(orders.size(), 5u);
}

// Elsewhere reading it is an error.
#ifdef __SANITIZE_ADDRESS__
TEST(SharedMemoryTest, StartsPoisoned) {
  const auto out = Filled<unsigned>(64, 0);
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(cuda::Launch(nullptr, &cuda::PoisonKernel, 1, 32, 128, out.get()), cudaSuccess);
    EXPECT_THAT(out.Read(), Each(~0u));
  }
}
#endif

}  // namespace
}  // namespace lukv::emulator
