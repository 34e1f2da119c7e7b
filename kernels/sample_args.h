// Arguments of the op that chooses tokens from logits. As in args.h, pointers are device pointers unless said
// otherwise.
#pragma once

#include <cstdint>

#include "kernels/args.h"

namespace lukv {

// A token whose logit changes before the choice, in this order: + bias; minus infinity if masked; if it was seen,
// divided (when positive; else multiplied) by the repetition penalty, minus count * the frequency penalty, minus the
// presence penalty if count > 0.
struct TokenAdjustment {
  int32_t token = 0;
  int32_t count = 0;  // Occurrences in the output.
  float bias = 0;
  bool seen = false;  // In the prompt or the output.
  bool masked = false;
};

// How one token is chosen. Its probability is the softmax of logit / temperature over the tokens that stay, in this
// order: those of at least min_p times the likeliest one's probability; of them the top_k likeliest (0: all); of them
// the fewest likeliest that hold top_p of what is left. Ties go to the lower id.
struct SampleRow {
  int32_t logits_row = 0;
  float temperature = 0;  // 0: the likeliest.
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  int32_t adjustments_begin = 0;  // Of SampleArgs::adjustments; no token twice.
  int32_t adjustments_end = 0;
  int32_t n_top = 0;  // Likeliest tokens to be reported.
  // A uniform draw from [0, 2^53). A token's share of it is its probability, in units of 2^-40 of the likeliest one's
  // (whole numbers, whose sums have no order): the token is the first, by id, whose running sum exceeds
  // draw * total / 2^53.
  uint64_t draw = 0;
};

inline constexpr int kDrawBits = 53;
inline constexpr int kWeightBits = 40;

// Log-probabilities are natural logarithms, of the softmax of the logits as they come in. Not a number is never chosen
// and counts as minus infinity.
struct SampleArgs {
  ConstMatrix logits;               // kF32, [rows, vocabulary]
  const SampleRow* rows = nullptr;  // [n_rows]
  int32_t n_rows = 0;
  const TokenAdjustment* adjustments = nullptr;
  int32_t n_adjustments = 0;
  int32_t max_top = 0;            // Greatest n_top of the rows; <= kMaxTopTokens.
  int32_t* tokens = nullptr;      // [n_rows]
  float* logprobs = nullptr;      // [n_rows], of the tokens; null: nobody wants log-probabilities, nor top tokens.
  int32_t* top_tokens = nullptr;  // [n_rows, max_top], likeliest first; a row's first n_top are written.
  float* top_logprobs = nullptr;  // [n_rows, max_top]
};

inline constexpr int32_t kMaxTopTokens = 64;

}  // namespace lukv
