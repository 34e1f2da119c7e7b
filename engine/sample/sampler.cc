#include "engine/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace lukv {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// The first of the largest values; NaNs never win.
size_t ArgMax(std::span<const float> values) {
  size_t best = 0;
  float best_value = kMasked;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] > best_value) {
      best = i;
      best_value = values[i];
    }
  }
  return best;
}

}  // namespace

Logprobs ComputeLogprobs(std::span<const float> logits, TokenId token, int32_t top) {
  LUKV_CHECK(top >= 0 && static_cast<size_t>(top) <= logits.size());
  const double max = logits[ArgMax(logits)];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  const double log_sum = max + std::log(sum);
  const auto logprob = [&](TokenId id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_sum);
  };
  Logprobs result{.chosen = logprob(token)};
  if (top > 0) {
    std::vector<TokenId> ids(logits.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
    std::partial_sort(ids.begin(), ids.begin() + top, ids.end(), [&](TokenId a, TokenId b) {
      const float la = logits[static_cast<size_t>(a)], lb = logits[static_cast<size_t>(b)];
      return la != lb ? la > lb : a < b;
    });
    for (int32_t i = 0; i < top; ++i) {
      result.top.push_back({.token = ids[static_cast<size_t>(i)], .logprob = logprob(ids[static_cast<size_t>(i)])});
    }
  }
  return result;
}

double UniformDraw(uint64_t seed, int32_t sample, int32_t step) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  uint64_t state = Mix(seed + kGolden);
  state = Mix(state + kGolden * (static_cast<uint64_t>(static_cast<uint32_t>(sample)) + 1));
  state = Mix(state + kGolden * (static_cast<uint64_t>(static_cast<uint32_t>(step)) + 1));
  return static_cast<double>(state >> 11) * 0x1.0p-53;
}

Sampler::Sampler(const SamplingParams& params, std::span<const TokenId> prompt, int32_t sample, int32_t min_tokens,
                 std::vector<TokenId> end_ids)
    : params_(params), sample_(sample), min_tokens_(min_tokens), end_ids_(std::move(end_ids)) {
  if (params_.repetition_penalty != 1.0f) {
    for (const TokenId id : prompt) prompt_or_output_.try_emplace(id, 0);
  }
}

bool Sampler::AdjustsLogits() const {
  return !params_.logit_bias.empty() || chosen_ < min_tokens_ || params_.repetition_penalty != 1.0f ||
         params_.frequency_penalty != 0.0f || params_.presence_penalty != 0.0f;
}

void Sampler::AdjustLogits() {
  for (const auto& [id, bias] : params_.logit_bias) logits_[static_cast<size_t>(id)] += bias;
  if (chosen_ < min_tokens_) {
    for (const TokenId id : end_ids_) logits_[static_cast<size_t>(id)] = kMasked;
  }
  for (const auto& [id, count] : prompt_or_output_) {
    float& logit = logits_[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    logit -= params_.frequency_penalty * static_cast<float>(count);
    if (count > 0) logit -= params_.presence_penalty;
  }
}

TokenId Sampler::Choose(std::span<const float> logits) {
  TokenId token;
  if (params_.temperature == 0.0f && !AdjustsLogits()) {
    token = static_cast<TokenId>(ArgMax(logits));
  } else {
    logits_.assign(logits.begin(), logits.end());
    AdjustLogits();
    token = params_.temperature == 0.0f ? static_cast<TokenId>(ArgMax(logits_)) : Draw();
  }
  ++prompt_or_output_[token];
  ++chosen_;
  return token;
}

size_t Sampler::Filter() {
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const size_t limit =
      params_.top_k > 0 ? std::min(candidates_.size(), static_cast<size_t>(params_.top_k)) : candidates_.size();
  // top_p is a share of what top_k left.
  const auto begin = candidates_.begin();
  if (limit < candidates_.size()) {
    std::nth_element(begin, begin + static_cast<ptrdiff_t>(limit), candidates_.end(), more_likely);
  }
  candidates_.resize(limit);
  if (params_.top_p >= 1.0f) {
    std::sort(begin, candidates_.end(), more_likely);
    return limit;
  }
  const float max =
      std::max_element(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return a.logit < b.logit;
      })->logit;
  double total = 0;
  for (const Candidate& c : candidates_) total += std::exp(static_cast<double>(c.logit - max));
  // The nucleus is small as a rule, so only as much as it needs is sorted.
  double sum = 0;
  size_t sorted = 0;
  for (size_t target = 64;; target *= 8) {
    target = std::min(target, candidates_.size());
    std::partial_sort(begin + static_cast<ptrdiff_t>(sorted), begin + static_cast<ptrdiff_t>(target), candidates_.end(),
                      more_likely);
    for (; sorted < target; ++sorted) {
      sum += std::exp(static_cast<double>(candidates_[sorted].logit - max));
      if (sum >= static_cast<double>(params_.top_p) * total) return sorted + 1;
    }
    if (target == candidates_.size()) return target;
  }
}

TokenId Sampler::Draw() {
  const float max = logits_[ArgMax(logits_)];
  const float inverse_temperature = 1.0f / params_.temperature;
  // p >= min_p * p_max, in logits.
  const float floor = params_.min_p > 0.0f ? std::log(params_.min_p) : kMasked;
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    const float scaled = (logits_[i] - max) * inverse_temperature;
    if (scaled >= floor && scaled > kMasked) candidates_.push_back({.logit = scaled, .id = static_cast<TokenId>(i)});
  }
  if (candidates_.empty()) return static_cast<TokenId>(ArgMax(logits_));
  // Unfiltered candidates stay in the order of their ids: sorting a whole vocabulary would cost more than the rest.
  const size_t n = params_.top_k > 0 || params_.top_p < 1.0f ? Filter() : candidates_.size();
  weights_.resize(n);
  double total = 0;
  for (size_t i = 0; i < n; ++i) {
    weights_[i] = std::exp(static_cast<double>(candidates_[i].logit));
    total += weights_[i];
  }
  double rest = UniformDraw(params_.seed, sample_, chosen_) * total;
  for (size_t i = 0; i < n; ++i) {
    rest -= weights_[i];
    if (rest < 0) return candidates_[i].id;
  }
  return candidates_[n - 1].id;  // Rounding left a crumb.
}

}  // namespace lukv
