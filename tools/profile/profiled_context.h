// A calibration text in the cache: prefilled once in full, scored by the scorers as a server would, and asked one
// question after the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/policy.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// What a curve is made for.
struct ProfileScorer {
  ScorerSettings settings;
  int32_t sink = 0;
  int32_t window = 0;
};

// How a question is answered.
struct AnswerOptions {
  int32_t max_new = 64;  // Tokens of an answer; >= 2, as the first one needs no decode step.
  float temperature = 0.7f;
  uint64_t seed = 0;
  std::vector<TokenId> end_ids;  // Any of them ends an answer; not before a token of it was decoded.
};

// Holds slot 0 of the runner. Everything long looks at `stop` now and then and returns CANCELLED when it is set.
class ProfiledContext {
 public:
  // The slot has room for `room` tokens behind the context. `runner`, `weights`, `stop` must outlive this.
  static absl::StatusOr<std::unique_ptr<ProfiledContext>> Make(ModelRunner& runner, const WeightSource& weights,
                                                               std::span<const TokenId> context, int32_t room,
                                                               std::span<const ProfileScorer> scorers,
                                                               const std::atomic<bool>& stop);
  ~ProfiledContext();
  ProfiledContext(const ProfiledContext&) = delete;
  ProfiledContext& operator=(const ProfiledContext&) = delete;

  int32_t n_tokens() const { return n_tokens_; }

  struct Answer {
    std::vector<TokenId> tokens;
    std::vector<float> importance;  // [n_layers, n_kv_heads, n_tokens], see OracleImportance.
  };
  // Appends the question, decodes an answer while the attention on the context is observed, and takes both back.
  // REQUIRES: they fit in the room.
  absl::StatusOr<Answer> Ask(std::span<const TokenId> question, const AnswerOptions& options);

  // Prune ratios [99, n_layers, n_kv_heads] that are best for this importance under the order of scorers[i].
  std::vector<float> Solve(size_t scorer, std::span<const float> importance) const;

 private:
  ProfiledContext(ModelRunner& runner, const std::atomic<bool>& stop, int32_t n_tokens)
      : runner_(runner), stop_(stop), n_tokens_(n_tokens) {}
  absl::Status Prefill(const PrefillPrompt& prompt, const PrefillSinks& sinks);
  absl::Status PrefillContext(std::span<const TokenId> context, std::span<const ProfileScorer> scorers);
  absl::Status Decode(std::span<const TokenId> question, const AnswerOptions& options, Answer& answer);

  ModelRunner& runner_;
  const std::atomic<bool>& stop_;
  const int32_t n_tokens_;
  std::vector<float> norms_;
  struct Ranking {
    int32_t n_protected = 0;
    std::vector<int32_t> entries;  // [n_layers * n_kv_heads, n_tokens - n_protected], as RankEntries gives them.
  };
  std::vector<Ranking> rankings_;  // One per scorer.
};

}  // namespace lukv
