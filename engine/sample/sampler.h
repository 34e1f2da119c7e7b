// What a sample's choice of the next token depends on, as rows for the backend's Sample.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/sample_args.h"

namespace lukv {

// A number in [0, 2^53) that depends on nothing but its three arguments, so that a sample draws the same numbers
// whatever runs beside it and however often it is preempted. (SplitMix64's finaliser, Steele et al. 2014, over a mix of
// the three.)
uint64_t UniformDraw(uint64_t seed, int32_t sample, int32_t step);

// Tokens that are chosen together. (Host arrays.)
struct SampleBatch {
  std::vector<SampleRow> rows;
  std::vector<TokenAdjustment> adjustments;
  bool logprobs = false;  // Somebody wants log-probabilities.
};

// The outcome of a row.
struct SampledToken {
  TokenId token = 0;
  float logprob = 0;              // If the batch asked for them.
  std::vector<TokenLogprob> top;  // The row's n_top, most likely first.
};

// One per sample of a request. Not thread-safe.
class Sampler {
 public:
  // `sample` is the index within the request. `end_ids` are masked until `min_tokens` tokens were chosen. REQUIRES:
  // parameters in their stated ranges; ids inside the vocabulary.
  Sampler(const SamplingParams& params, std::span<const TokenId> prompt, int32_t sample, int32_t min_tokens,
          std::vector<TokenId> end_ids);

  // Adds the row of the sample's next token. n_top < 0: its log-probability is not wanted.
  void AddRow(int32_t logits_row, int32_t n_top, SampleBatch& batch) const;
  // The token was chosen.
  void Took(TokenId token);

 private:
  bool Penalises() const;

  SamplingParams params_;
  int32_t sample_;
  int32_t min_tokens_;
  std::vector<TokenId> end_ids_;
  std::map<TokenId, int32_t> seen_;  // In the prompt or the output; value: occurrences in the output.
  int32_t chosen_ = 0;
};

}  // namespace lukv
