// Chooses the next token of one sample from its logits.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// The log-probabilities (natural logarithm, of the raw logits' softmax) of `token` and of the `top` likeliest tokens,
// most likely first, ties to the lower id. top <= logits.size().
struct Logprobs {
  float chosen = 0;
  std::vector<TokenLogprob> top;
};
Logprobs ComputeLogprobs(std::span<const float> logits, TokenId token, int32_t top);

// A number in [0, 1) that depends on nothing but its three arguments, so that a sample draws the same numbers whatever
// runs beside it and however often it is preempted. (SplitMix64's finaliser, Steele et al. 2014, over a mix of the
// three.)
double UniformDraw(uint64_t seed, int32_t sample, int32_t step);

// One per sample of a request; applies SamplingParams in the order that engine/request.h states. Not thread-safe.
class Sampler {
 public:
  // `sample` is the index within the request. `end_ids` are masked until `min_tokens` tokens were chosen. REQUIRES:
  // parameters in their stated ranges; ids inside the vocabulary.
  Sampler(const SamplingParams& params, std::span<const TokenId> prompt, int32_t sample, int32_t min_tokens,
          std::vector<TokenId> end_ids);

  // logits: [vocabulary]. Counts the token as chosen. NaN logits are never chosen unless all are NaN.
  TokenId Choose(std::span<const float> logits);

 private:
  struct Candidate {
    float logit;
    TokenId id;
  };
  void AdjustLogits();
  TokenId Draw();
  // Sorts the most likely candidates to the front until they hold top_k or top_p (whichever is fewer), and returns how
  // many stay.
  size_t Filter();
  bool AdjustsLogits() const;

  const SamplingParams params_;
  const int32_t sample_;
  const int32_t min_tokens_;
  const std::vector<TokenId> end_ids_;
  std::unordered_map<TokenId, int32_t> prompt_or_output_;  // Value: occurrences in the output.
  int32_t chosen_ = 0;
  std::vector<float> logits_;  // Working copy.
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace lukv
