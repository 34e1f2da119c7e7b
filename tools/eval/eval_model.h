// A model that answers one sample under many policies: the context is prefilled once, every policy keeps its choice of
// the same layers, and all of them answer together.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/budget_curve.h"
#include "engine/evict/eviction_plan.h"
#include "engine/evict/policy.h"
#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/eval/prompt.h"
#include "tools/eval/sample.h"

namespace lukv {

struct EvalModelOptions {
  std::string model;   // GGUF file or Hugging Face folder.
  std::string curves;  // Folder with budget curves; "": one of the model under share/lukv/profiles.
  int threads = 0;     // 0: one per core.
  int64_t kv_memory = int64_t{6} << 30;
  int32_t max_length = 0;  // Tokens of the longest sample, its answer included.
};

// What a policy cost on a sample.
struct EvalCost {
  int64_t kv_bytes_full = 0;      // Pages of context and question in full.
  int64_t kv_bytes_resident = 0;  // Pages held.
  double ratio = 0;               // Of the context's entries that were removed.
  double prefill_s = 0;           // Of the context, for all policies of its round.
  double decode_s = 0;            // Of one token, the sequence alone; 0: not measured.
};

struct EvalAnswer {
  std::string text;
  EvalCost cost;
};

// How well the continuation of a text is foretold.
struct EvalLikelihood {
  double nll = 0;   // Mean over the continuation's tokens, nats.
  double kl = 0;    // Mean of KL(full || policy), nats.
  double top1 = 0;  // Part of the tokens where both like the same best.
  EvalCost cost;
};

// Not thread-safe. `stop` is looked at now and then: CANCELLED.
class EvalModel {
 public:
  static absl::StatusOr<std::unique_ptr<EvalModel>> Open(const EvalModelOptions& options,
                                                         const std::atomic<bool>& stop);

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const ModelConfig& config() const { return weights_->config(); }
  // INVALID_ARGUMENT: there is no budget curve for a policy; nothing is run then.
  absl::Status CheckPolicies(std::span<const Policy> policies) const;

  // One answer per policy, greedy. `measure`: the time of a decode step too.
  absl::StatusOr<std::vector<EvalAnswer>> Answer(const EvalSample& sample, const SampleTokens& tokens,
                                                 std::span<const Policy> policies, bool measure);
  // tokens.question is the continuation, of two tokens or more; its first is not judged, as it is foretold by the
  // context itself.
  absl::StatusOr<std::vector<EvalLikelihood>> Likelihood(const SampleTokens& tokens, std::span<const Policy> policies);

 private:
  // Policies that fit in the memory together, with what they plan for the context.
  struct Round;
  explicit EvalModel(const std::atomic<bool>& stop) : stop_(stop) {}

  absl::StatusOr<std::vector<std::unique_ptr<EvictionPlan>>> MakePlans(std::span<const Policy> policies,
                                                                       int32_t n_tokens) const;
  // Prefills the context for policies [begin, end) of the round that is returned; its slots are open.
  absl::StatusOr<Round> StartRound(const SampleTokens& tokens, std::span<const std::unique_ptr<EvictionPlan>> plans,
                                   size_t begin, int32_t room);
  absl::Status Prefill(std::span<const PrefillPrompt> prompts, const PrefillSinks& sinks);
  absl::Status DecodeAnswers(const EvalSample& sample, const SampleTokens& tokens, const Round& round,
                             std::vector<TokenId> next, std::span<EvalAnswer> answers);
  absl::StatusOr<double> MeasureDecode(Slot slot, TokenId token, int32_t position);
  EvalCost CostOf(const Round& round, size_t index, size_t n_tokens) const;
  void Release(const Round& round);
  absl::Status CheckStop() const;

  const std::atomic<bool>& stop_;
  std::unique_ptr<WeightSource> weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ModelRunner> runner_;
  std::string fingerprint_;
  CurveSet curves_;
};

}  // namespace lukv
