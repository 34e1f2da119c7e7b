// Policies at work on the same context: it is prefilled once, each policy keeps its part of it in a slot of its own,
// and the question goes to all of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/evict/eviction_plan.h"
#include "engine/model/runner.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/eval/policies.h"
#include "tools/eval/prompt.h"
#include "tools/eval/sample.h"

namespace lukv {

// Policies whose caches fit into memory together; round.policies[i] is in Slot i.
struct PolicyRound {
  std::vector<size_t> policies;  // Indices of PolicyRunner::policies().
  int32_t context_tokens = 0;
  double prefill_s = 0;  // Of the context, with the evictions of all policies of the round.
};

// What is measured of a policy beside its answer.
struct PolicyCost {
  double ratio = 0;                // Of the plan.
  int64_t kv_bytes_full = 0;       // Pages that the full cache of context and question takes.
  int64_t kv_bytes_resident = 0;   // Pages that the policy's takes.
  double prefill_s = 0;            // The round's.
  std::optional<double> decode_s;  // Of one token, decoded alone; if it was asked for.
};

struct PolicyAnswer {
  std::string text;
  PolicyCost cost;
};

// All decode steps that a slot may take after its answer, for timing.
inline constexpr int32_t kTimedSteps = 5;

// Not thread-safe.
class PolicyRunner {
 public:
  // All must outlive it. Everything ends with CANCELLED soon after `stop` is set.
  PolicyRunner(ModelRunner& runner, const Tokenizer& tokenizer, std::vector<EvalPolicy> policies,
               const std::atomic<bool>& stop);

  const std::vector<EvalPolicy>& policies() const { return policies_; }
  ModelRunner& runner() { return runner_; }

  // Greedy answers of all policies, in their order. An answer ends at an end token, after max_new_tokens, or when its
  // score is final. With time_decode each policy's slot decodes a few more tokens alone, for the time of one.
  absl::StatusOr<std::vector<PolicyAnswer>> Answer(const EvalSample& sample, const SampleTokens& tokens,
                                                   bool time_decode);

  // The parts of it, for other measurements. Prefills the context for as many policies as the pages have room for, with
  // room for `more` entries behind it, calls `use`, and goes on with the rest until all had their turn. Policies keep
  // their order.
  absl::Status ForEachRound(std::span<const TokenId> context, int32_t more,
                            absl::FunctionRef<absl::Status(const PolicyRound&)> use);
  // Appends the question to slots [first, last) of the round. Logits come from its token `logits_from` on.
  using SlotLogitsSink = std::function<void(size_t slot, size_t token, std::span<const float> logits)>;
  absl::Status Ask(const PolicyRound& round, size_t first, size_t last, std::span<const TokenId> question,
                   size_t logits_from, const SlotLogitsSink& sink);
  // Of what slot `slot` of the round holds now; without a time.
  PolicyCost Cost(const PolicyRound& round, size_t slot, size_t question_tokens) const;
  // Seconds of a token, the slot decoding alone: the best of kTimedSteps. `position`: of the first token.
  absl::StatusOr<double> TimeDecode(size_t slot, TokenId token, int32_t position);

 private:
  struct Decoding;

  absl::StatusOr<std::vector<std::optional<EvictionPlan>>> MakePlans(int32_t context) const;
  absl::Status OpenAndPrefill(std::span<const TokenId> context, int32_t more, PolicyRound& round);
  absl::Status RunGroup(std::span<const PrefillPrompt> prompts, const PrefillSinks& sinks);
  absl::Status DecodeAll(const EvalSample& sample, std::vector<Decoding>& decodings);
  absl::Status CheckStop() const;
  const EvictionPlan* Plan(size_t policy) const { return plans_[policy].has_value() ? &*plans_[policy] : nullptr; }

  ModelRunner& runner_;
  const Tokenizer& tokenizer_;
  const std::vector<EvalPolicy> policies_;
  const std::atomic<bool>& stop_;
  std::vector<std::optional<EvictionPlan>> plans_;  // For the running context; none: full.
};

// The likeliest token; ties to the lower id.
TokenId Likeliest(std::span<const float> logits);

}  // namespace lukv
