#include "tools/bench/cpu_peaks.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace lukv {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTries = 7;
constexpr int kLoops = 201;
constexpr int64_t kRounds = 200'000;
// Independent sums: more than an instruction's latency times how many start in a cycle.
constexpr int kSums = 12;

// The compiler cannot know what is in `values`, nor that nobody reads them.
template <typename V>
void Opaque(V& values) {
  asm volatile("" : : "r"(&values) : "memory");
}

// Each does kSums * kRounds products of vectors; returns the multiplications and additions of one of them.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) int64_t VnniRounds() {
  __m512i sums[kSums] = {};
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
  Opaque(a);
  Opaque(b);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  Opaque(sums);
  return 2 * 64;
}

__attribute__((target("avx2"))) int64_t Avx2Rounds() {
  __m256i sums[kSums] = {};
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-2), ones = _mm256_set1_epi16(1);
  Opaque(a);
  Opaque(b);
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m256i& sum : sums) {
      asm volatile("" : "+x"(a));  // Otherwise the product is computed once.
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  Opaque(sums);
  return 2 * 32;
}

int64_t Rounds() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") ? VnniRounds() : Avx2Rounds();
}

double Seconds(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

void MeasureCpuPeaks(int threads, Peaks& peaks) {
  ThreadPool pool(threads);
  for (int i = 0; i < kTries; ++i) {
    std::atomic<int64_t> operations = 0;
    const auto start = Clock::now();
    pool.ParallelFor(threads, [&](int64_t, int) { operations += kSums * kRounds * Rounds(); });
    peaks.int8_ops_per_s = std::max(peaks.int8_ops_per_s, static_cast<double>(operations) / Seconds(start));
  }
  std::array<double, kLoops> loops{};
  for (double& seconds : loops) {
    const auto start = Clock::now();
    pool.ParallelFor(threads, [](int64_t, int) {});
    seconds = Seconds(start);
  }
  std::nth_element(loops.begin(), loops.begin() + kLoops / 2, loops.end());
  peaks.fork_join_s = loops[kLoops / 2];
}

}  // namespace lukv
