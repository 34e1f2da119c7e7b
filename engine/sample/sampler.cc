#include "engine/sample/sampler.h"

#include <utility>

namespace lukv {
namespace {

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

uint64_t UniformDraw(uint64_t seed, int32_t sample, int32_t step) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  uint64_t state = Mix(seed + kGolden);
  state = Mix(state + kGolden * (static_cast<uint64_t>(static_cast<uint32_t>(sample)) + 1));
  state = Mix(state + kGolden * (static_cast<uint64_t>(static_cast<uint32_t>(step)) + 1));
  return state >> (64 - kDrawBits);
}

Sampler::Sampler(const SamplingParams& params, std::span<const TokenId> prompt, int32_t sample, int32_t min_tokens,
                 std::vector<TokenId> end_ids)
    : params_(params), sample_(sample), min_tokens_(min_tokens), end_ids_(std::move(end_ids)) {
  if (params_.repetition_penalty != 1.0f) {
    for (const TokenId id : prompt) seen_.try_emplace(id, 0);
  }
}

bool Sampler::Penalises() const {
  return params_.repetition_penalty != 1.0f || params_.frequency_penalty != 0.0f || params_.presence_penalty != 0.0f;
}

void Sampler::AddRow(int32_t logits_row, int32_t n_top, SampleBatch& batch) const {
  SampleRow row{.logits_row = logits_row,
                .temperature = params_.temperature,
                .top_k = params_.top_k,
                .top_p = params_.top_p,
                .min_p = params_.min_p,
                .repetition_penalty = params_.repetition_penalty,
                .frequency_penalty = params_.frequency_penalty,
                .presence_penalty = params_.presence_penalty,
                .adjustments_begin = static_cast<int32_t>(batch.adjustments.size()),
                .n_top = n_top > 0 ? n_top : 0,
                .draw = UniformDraw(params_.seed, sample_, chosen_)};
  std::map<TokenId, TokenAdjustment> adjustments;
  const auto of = [&](TokenId id) -> TokenAdjustment& {
    TokenAdjustment& adjustment = adjustments[id];
    adjustment.token = id;
    return adjustment;
  };
  for (const auto& [id, bias] : params_.logit_bias) of(id).bias = bias;
  if (chosen_ < min_tokens_) {
    for (const TokenId id : end_ids_) of(id).masked = true;
  }
  if (Penalises()) {
    for (const auto& [id, count] : seen_) {
      of(id).seen = true;
      of(id).count = count;
    }
  }
  for (const auto& [id, adjustment] : adjustments) batch.adjustments.push_back(adjustment);
  row.adjustments_end = static_cast<int32_t>(batch.adjustments.size());
  batch.rows.push_back(row);
  batch.logprobs |= n_top >= 0;
}

void Sampler::Took(TokenId token) {
  ++seen_[token];
  ++chosen_;
}

}  // namespace lukv
