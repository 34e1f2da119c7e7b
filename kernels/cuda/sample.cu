// Choosing tokens from logits: one block for each row. All sums that decide are of whole numbers, so that they do not
// depend on the order in which threads add up.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {
namespace {

constexpr int kSampleThreads = 1024;
constexpr int kSampleWarps = kSampleThreads / kWarp;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

}  // namespace

// Larger floats have larger keys; 0 is no candidate (its float would be a NaN).
LUKV_DEVICE uint32_t SampleKey(float value) {
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
LUKV_DEVICE float SampleValue(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

LUKV_DEVICE unsigned long long SampleWeight(uint32_t key) {
  return static_cast<unsigned long long>(ldexp(exp(static_cast<double>(SampleValue(key))), kWeightBits));
}

// The sum over the block's threads of a whole number; all threads get it.
LUKV_DEVICE unsigned long long SampleBlockSum(unsigned long long value, unsigned long long* total) {
  __syncthreads();
  if (threadIdx.x == 0) *total = 0;
  __syncthreads();
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  if (Lane() == 0) atomicAdd(total, value);
  __syncthreads();
  return *total;
}

// The sum over the threads before this one. scratch: [kSampleWarps]
LUKV_DEVICE unsigned long long SampleSumBefore(unsigned long long value, unsigned long long* scratch) {
  unsigned long long inclusive = value;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned long long lower = __shfl_up_sync(kFullWarp, inclusive, offset);
    if (Lane() >= offset) inclusive += lower;
  }
  __syncthreads();
  if (Lane() == kWarp - 1) scratch[Warp()] = inclusive;
  __syncthreads();
  unsigned long long before = 0;
  for (int warp = 0; warp < Warp(); ++warp) before += scratch[warp];
  return before + inclusive - value;
}

// A logit and its token in one word, so that the greater word is the likelier token, ties to the lower id.
LUKV_DEVICE unsigned long long SampleRank(float logit, int32_t token) {
  const unsigned long long key = logit != logit ? SampleKey(-INFINITY) : SampleKey(logit);
  return (key << 32) | (0xffffffffu - static_cast<uint32_t>(token));
}
LUKV_DEVICE int32_t SampleRankToken(unsigned long long rank) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(rank));
}

// The greatest rank below `limit`. best: one word of shared memory.
LUKV_DEVICE unsigned long long SampleBest(const float* logits, int64_t vocabulary, unsigned long long limit,
                                          unsigned long long* best) {
  __syncthreads();
  if (threadIdx.x == 0) *best = 0;
  __syncthreads();
  unsigned long long mine = 0;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kSampleThreads) {
    const unsigned long long rank = SampleRank(logits[i], static_cast<int32_t>(i));
    if (rank < limit && rank > mine) mine = rank;
  }
  atomicMax(best, mine);
  __syncthreads();
  return *best;
}

__global__ void __launch_bounds__(kSampleThreads, 1) SampleAdjustKernel(SampleArgs args, float* adjusted) {
  const SampleRow& row = args.rows[blockIdx.x];
  const int64_t vocabulary = args.logits.cols;
  const float* const logits = args.logits.row<float>(row.logits_row);
  float* const out = adjusted + blockIdx.x * vocabulary;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kSampleThreads) out[i] = logits[i];
  __syncthreads();
  for (int32_t i = row.adjustments_begin + static_cast<int32_t>(threadIdx.x); i < row.adjustments_end;
       i += kSampleThreads) {
    const TokenAdjustment adjustment = args.adjustments[i];
    float logit = out[adjustment.token] + adjustment.bias;
    if (adjustment.masked) logit = -INFINITY;
    if (adjustment.seen) {
      logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
      logit -= row.frequency_penalty * static_cast<float>(adjustment.count);
      if (adjustment.count > 0) logit -= row.presence_penalty;
    }
    out[adjustment.token] = logit;
  }
}

// The tokens that stay: those with a key above `key`, and the first `ties` of those that have it.
struct SampleThreshold {
  uint32_t key;
  unsigned long long ties;
};

// Digit by digit from the top: with the tokens in descending order, finds the key at which the sum of their amounts
// (1 for each, or its weight) reaches `wanted`, and the sum above that key. counts: [kDigits]
template <bool kWeights, typename Reached>
LUKV_DEVICE uint32_t SampleSelect(const uint32_t* keys, int64_t vocabulary, const SampleThreshold& least,
                                  Reached reached, unsigned long long* counts, unsigned long long* above) {
  LUKV_SHARED(unsigned long long, found, 2);
  uint32_t prefix = 0;
  unsigned long long sum = 0;
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    __syncthreads();
    for (int i = threadIdx.x; i < kDigits; i += kSampleThreads) counts[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < vocabulary; i += kSampleThreads) {
      const uint32_t key = keys[i];
      // The digits above are those found so far. (A shift by 32 would be undefined.)
      if (key == 0 || key < least.key || ((key ^ prefix) >> shift >> kDigitBits) != 0) continue;
      atomicAdd(&counts[(key >> shift) % kDigits], kWeights ? SampleWeight(key) : 1ull);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      // The ties at `least` that are out carry no weight.
      int digit = kDigits - 1;
      while (digit > 0 && !reached(sum + counts[digit])) sum += counts[digit--];
      found[0] = static_cast<unsigned long long>(digit);
      found[1] = sum;
    }
    __syncthreads();
    prefix |= static_cast<uint32_t>(found[0]) << shift;
    sum = found[1];
  }
  *above = sum;
  return prefix;
}

// Keys of the candidates, then the row's token. keys: [rows, vocabulary]; logits: adjusted, in the same memory.
__global__ void __launch_bounds__(kSampleThreads, 1) SampleKernel(SampleArgs args, float* adjusted) {
  LUKV_SHARED(unsigned long long, counts, kDigits);
  LUKV_SHARED(unsigned long long, total_word, 1);
  LUKV_SHARED(unsigned long long, warps, kSampleWarps);
  const SampleRow& row = args.rows[blockIdx.x];
  const int64_t vocabulary = args.logits.cols;
  float* const logits = adjusted + blockIdx.x * vocabulary;
  const unsigned long long best = SampleBest(logits, vocabulary, ~0ull, total_word);
  const int32_t likeliest = SampleRankToken(best);
  const float max = SampleValue(static_cast<uint32_t>(best >> 32));
  if (row.temperature == 0 || max == -INFINITY) {
    if (threadIdx.x == 0) args.tokens[blockIdx.x] = max == -INFINITY ? 0 : likeliest;
    return;
  }

  uint32_t* const keys = reinterpret_cast<uint32_t*>(logits);
  const float inverse_temperature = 1.0f / row.temperature;
  const float floor = row.min_p > 0 ? logf(row.min_p) : -INFINITY;
  unsigned long long candidates = 0;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kSampleThreads) {
    const float scaled = (logits[i] - max) * inverse_temperature;
    const bool stays = scaled >= floor && scaled > -INFINITY;
    keys[i] = stays ? SampleKey(scaled) : 0;
    candidates += stays ? 1 : 0;
  }
  candidates = SampleBlockSum(candidates, total_word);
  if (candidates == 0) {
    if (threadIdx.x == 0) args.tokens[blockIdx.x] = likeliest;
    return;
  }

  SampleThreshold threshold{.key = 1, .ties = ~0ull};
  unsigned long long above = 0;
  if (row.top_k > 0 && static_cast<unsigned long long>(row.top_k) < candidates) {
    const auto wanted = static_cast<unsigned long long>(row.top_k);
    threshold.key = SampleSelect<false>(
        keys, vocabulary, threshold, [&](unsigned long long sum) { return sum >= wanted; }, counts, &above);
    threshold.ties = wanted - above;
  }
  // A thread's stretch of tokens, so that the threads' order is that of the ids.
  const int64_t stretch = (vocabulary + kSampleThreads - 1) / kSampleThreads;
  const int64_t begin = threadIdx.x * stretch < vocabulary ? threadIdx.x * stretch : vocabulary;
  const int64_t end = begin + stretch < vocabulary ? begin + stretch : vocabulary;
  // Ties that stand before the stretch, and the weight of those in it that stay.
  const auto ties_before = [&] {
    unsigned long long ties = 0;
    for (int64_t i = begin; i < end; ++i) ties += keys[i] == threshold.key ? 1 : 0;
    return SampleSumBefore(ties, warps);
  };
  const auto weight_of_stretch = [&](unsigned long long ties) {
    unsigned long long sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      if (keys[i] < threshold.key || (keys[i] == threshold.key && ties++ >= threshold.ties)) continue;
      sum += SampleWeight(keys[i]);
    }
    return sum;
  };
  unsigned long long ties = ties_before();
  unsigned long long mine = weight_of_stretch(ties);
  unsigned long long total = SampleBlockSum(mine, total_word);
  if (row.top_p < 1) {
    // Of the ties at top_k's threshold some are out: they are the last in the order, and never needed.
    const double wanted = static_cast<double>(row.top_p) * static_cast<double>(total);
    const uint32_t key = SampleSelect<true>(
        keys, vocabulary, threshold, [&](unsigned long long sum) { return static_cast<double>(sum) >= wanted; }, counts,
        &above);
    const unsigned long long weight = SampleWeight(key);
    // The fewest ties that reach it; by the quotient, mended for its rounding.
    unsigned long long needed = 1;
    if (weight > 0 && static_cast<double>(above) < wanted) {
      const double quotient = (wanted - static_cast<double>(above)) / static_cast<double>(weight);
      needed = quotient > 2 ? static_cast<unsigned long long>(quotient) - 1 : 1;
      while (static_cast<double>(above + needed * weight) < wanted) ++needed;
    }
    threshold.ties = key == threshold.key && threshold.ties < needed ? threshold.ties : needed;
    threshold.key = key;
    ties = ties_before();
    mine = weight_of_stretch(ties);
    total = SampleBlockSum(mine, total_word);
  }

  // draw * total / 2^53, from the high half of a product of 128 bits.
  const unsigned long long target = __umul64hi(static_cast<unsigned long long>(row.draw) << (64 - kDrawBits), total);
  unsigned long long sum = SampleSumBefore(mine, warps);
  if (target < sum || target >= sum + mine) return;
  for (int64_t i = begin; i < end; ++i) {
    if (keys[i] < threshold.key || (keys[i] == threshold.key && ties++ >= threshold.ties)) continue;
    sum += SampleWeight(keys[i]);
    if (sum > target) {
      args.tokens[blockIdx.x] = static_cast<int32_t>(i);
      return;
    }
  }
}

// Log-probabilities of the raw logits. A thread's part of the sum is fixed, and so is the order of the parts.
__global__ void __launch_bounds__(kSampleThreads, 1) SampleLogprobsKernel(SampleArgs args) {
  LUKV_SHARED(unsigned long long, best_word, 1);
  LUKV_SHARED(double, warps, kSampleWarps);
  const SampleRow& row = args.rows[blockIdx.x];
  const int64_t vocabulary = args.logits.cols;
  const float* const logits = args.logits.row<float>(row.logits_row);
  unsigned long long rank = SampleBest(logits, vocabulary, ~0ull, best_word);
  const double max = static_cast<double>(SampleValue(static_cast<uint32_t>(rank >> 32)));
  double sum = 0;
  for (int64_t i = threadIdx.x; i < vocabulary; i += kSampleThreads) {
    if (logits[i] > -INFINITY) sum += exp(static_cast<double>(logits[i]) - max);
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
  if (Lane() == 0) warps[Warp()] = sum;
  __syncthreads();
  double total = 0;
  for (int warp = 0; warp < kSampleWarps; ++warp) total += warps[warp];
  const double log_sum = max + log(total);
  const auto logprob = [&](int32_t token) {
    const float logit = logits[token];
    return logit != logit ? -INFINITY : static_cast<float>(static_cast<double>(logit) - log_sum);
  };
  if (threadIdx.x == 0) args.logprobs[blockIdx.x] = logprob(args.tokens[blockIdx.x]);
  for (int32_t t = 0; t < row.n_top; ++t) {
    if (t > 0) rank = SampleBest(logits, vocabulary, rank, best_word);
    if (threadIdx.x != 0) continue;
    args.top_tokens[int64_t{blockIdx.x} * args.max_top + t] = SampleRankToken(rank);
    args.top_logprobs[int64_t{blockIdx.x} * args.max_top + t] = logprob(SampleRankToken(rank));
  }
}

cudaError_t Sample(const SampleArgs& args, const OpContext& context) {
  void* adjusted = nullptr;
  const size_t values = static_cast<size_t>(args.n_rows) * static_cast<size_t>(args.logits.cols);
  LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(values * sizeof(float), &adjusted));
  const unsigned grid = static_cast<unsigned>(args.n_rows);
  LUKV_CUDA_RETURN_IF_ERROR(
      Launch(context.stream, &SampleAdjustKernel, grid, kSampleThreads, 0, args, static_cast<float*>(adjusted)));
  LUKV_CUDA_RETURN_IF_ERROR(
      Launch(context.stream, &SampleKernel, grid, kSampleThreads, 0, args, static_cast<float*>(adjusted)));
  if (args.logprobs == nullptr) return cudaSuccess;
  return Launch(context.stream, &SampleLogprobsKernel, grid, kSampleThreads, 0, args);
}

}  // namespace lukv::cuda
