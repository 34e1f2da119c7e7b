// Choosing tokens. A row is one task; rows share nothing.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "kernels/cpu/ops.h"

namespace lukv::cpu {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

__extension__ using Wide = unsigned __int128;

struct Candidate {
  float scaled;  // (logit - greatest logit) / temperature
  int32_t token;
  uint64_t weight;
};

bool MoreLikely(const Candidate& a, const Candidate& b) {
  return a.scaled != b.scaled ? a.scaled > b.scaled : a.token < b.token;
}

// The first of the largest values; NaNs never win.
int32_t ArgMax(std::span<const float> values) {
  size_t best = 0;
  float best_value = kMasked;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] > best_value) {
      best = i;
      best_value = values[i];
    }
  }
  return static_cast<int32_t>(best);
}

void Adjust(const SampleRow& row, std::span<const TokenAdjustment> adjustments, float* logits) {
  for (const TokenAdjustment& a : adjustments) {
    float& logit = logits[a.token];
    logit += a.bias;
    if (a.masked) logit = kMasked;
    if (!a.seen) continue;
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    logit -= row.frequency_penalty * static_cast<float>(a.count);
    if (a.count > 0) logit -= row.presence_penalty;
  }
}

uint64_t Weight(float scaled) {
  return static_cast<uint64_t>(std::ldexp(std::exp(static_cast<double>(scaled)), kWeightBits));
}

// Moves those that stay to the front, and returns how many.
size_t Filter(const SampleRow& row, std::span<Candidate> candidates) {
  size_t n = candidates.size();
  if (row.top_k > 0 && static_cast<size_t>(row.top_k) < n) {
    n = static_cast<size_t>(row.top_k);
    std::nth_element(candidates.begin(), candidates.begin() + static_cast<ptrdiff_t>(n), candidates.end(), MoreLikely);
  }
  if (row.top_p >= 1) return n;
  uint64_t total = 0;
  for (const Candidate& c : candidates.first(n)) total += c.weight;
  // The nucleus is small as a rule, so only as much as it needs is sorted.
  const double wanted = static_cast<double>(row.top_p) * static_cast<double>(total);
  uint64_t sum = 0;
  size_t sorted = 0;
  const auto begin = candidates.begin();
  for (size_t target = 64;; target *= 8) {
    target = std::min(target, n);
    std::partial_sort(begin + static_cast<ptrdiff_t>(sorted), begin + static_cast<ptrdiff_t>(target),
                      begin + static_cast<ptrdiff_t>(n), MoreLikely);
    for (; sorted < target; ++sorted) {
      sum += candidates[sorted].weight;
      if (static_cast<double>(sum) >= wanted) return sorted + 1;
    }
    if (target == n) return n;
  }
}

int32_t Draw(const SampleRow& row, std::span<const float> logits, Candidate* scratch) {
  const int32_t likeliest = ArgMax(logits);
  const float max = logits[static_cast<size_t>(likeliest)];
  const float inverse_temperature = 1.0f / row.temperature;
  const float floor = row.min_p > 0 ? std::log(row.min_p) : kMasked;
  size_t n = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float scaled = (logits[i] - max) * inverse_temperature;
    if (!(scaled >= floor && scaled > kMasked)) continue;
    scratch[n++] = {.scaled = scaled, .token = static_cast<int32_t>(i), .weight = Weight(scaled)};
  }
  if (n == 0) return likeliest;  // All are masked, or not a number.
  std::span<Candidate> candidates(scratch, n);
  if (row.top_k > 0 || row.top_p < 1) {
    candidates = candidates.first(Filter(row, candidates));
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  }
  uint64_t total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  const uint64_t target = static_cast<uint64_t>((static_cast<Wide>(row.draw) * total) >> kDrawBits);
  uint64_t sum = 0;
  for (const Candidate& c : candidates) {
    sum += c.weight;
    if (sum > target) return c.token;
  }
  return likeliest;  // Not reached: target < total.
}

void Report(const SampleArgs& args, const SampleRow& row, int32_t i, std::span<const float> logits,
            Candidate* scratch) {
  const double max = logits[static_cast<size_t>(ArgMax(logits))];
  double sum = 0;
  for (const float logit : logits) {
    if (logit > kMasked) sum += std::exp(static_cast<double>(logit) - max);
  }
  const double log_sum = max + std::log(sum);
  const auto logprob = [&](int32_t token) {
    const float logit = logits[static_cast<size_t>(token)];
    return std::isnan(logit) ? kMasked : static_cast<float>(static_cast<double>(logit) - log_sum);
  };
  args.logprobs[i] = logprob(args.tokens[i]);
  if (row.n_top == 0) return;
  for (size_t t = 0; t < logits.size(); ++t) {
    scratch[t] = {.scaled = std::isnan(logits[t]) ? kMasked : logits[t], .token = static_cast<int32_t>(t), .weight = 0};
  }
  std::partial_sort(scratch, scratch + row.n_top, scratch + logits.size(), MoreLikely);
  for (int32_t t = 0; t < row.n_top; ++t) {
    args.top_tokens[int64_t{i} * args.max_top + t] = scratch[t].token;
    args.top_logprobs[int64_t{i} * args.max_top + t] = logprob(scratch[t].token);
  }
}

}  // namespace

void Sample(const SampleArgs& args, OpContext& context) {
  const size_t vocabulary = static_cast<size_t>(args.logits.cols);
  context.pool.ParallelFor(args.n_rows, [&](int64_t task, int thread) {
    const int32_t i = static_cast<int32_t>(task);
    const SampleRow& row = args.rows[i];
    const std::span<const float> logits(args.logits.row<float>(row.logits_row), vocabulary);
    std::span<const float> adjusted = logits;
    std::byte* const scratch = context.Scratch(thread, vocabulary * (sizeof(Candidate) + sizeof(float)));
    Candidate* const candidates = reinterpret_cast<Candidate*>(scratch);
    if (row.adjustments_begin < row.adjustments_end) {
      float* const copy = reinterpret_cast<float*>(scratch + vocabulary * sizeof(Candidate));
      std::memcpy(copy, logits.data(), logits.size_bytes());
      Adjust(row, {args.adjustments + row.adjustments_begin, args.adjustments + row.adjustments_end}, copy);
      adjusted = {copy, vocabulary};
    }
    args.tokens[i] = row.temperature == 0 ? ArgMax(adjusted) : Draw(row, adjusted, candidates);
    if (args.logprobs != nullptr) Report(args, row, i, logits, candidates);
  });
}

}  // namespace lukv::cpu
