// How well the continuation of a long text is foreseen from its compressed beginning.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/eval/runner_eval.h"

namespace lukv {

// Tokens behind the context that are foreseen, each from all before it.
inline constexpr int32_t kNllTokens = 512;
// Tokens of a text that a sample needs beside its context.
inline constexpr int32_t kNllMore = kNllTokens + 1;

struct NllOutcome {
  double nll = 0;   // Mean of -ln p(token), nats.
  double kl = 0;    // Mean of KL(full || policy), nats.
  double top1 = 0;  // Part of the places where policy and full cache like the same token best.
  PolicyCost cost;
};

// A context and the kNllMore tokens behind it.
struct NllSample {
  std::vector<TokenId> context;
  std::vector<TokenId> continuation;
};

// Up to `samples` windows of the text, spread evenly over it. INVALID_ARGUMENT: the text is too short for one.
absl::StatusOr<std::vector<NllSample>> NllSamples(const Tokenizer& tokenizer, const std::string& text, int32_t length,
                                                  int32_t samples);

// Of all policies, in their order. REQUIRES: the first policy is full.
absl::StatusOr<std::vector<NllOutcome>> MeasureNll(PolicyRunner& runner, const NllSample& sample, bool time_decode);

// What the full cache foresees at each place, to compare others with.
class ReferenceDistributions {
 public:
  // Adds the next place.
  void Add(std::span<const float> logits);
  // KL(reference || logits) at a place.
  double Divergence(size_t place, std::span<const float> logits) const;
  TokenId likeliest(size_t place) const { return likeliest_[place]; }

 private:
  std::vector<float> probabilities_;      // [places, vocabulary]
  std::vector<double> negative_entropy_;  // Sum of p ln p.
  std::vector<TokenId> likeliest_;
};

// -ln of the token's probability.
double NegativeLogLikelihood(std::span<const float> logits, TokenId token);

}  // namespace lukv
