#include "tools/bench/speed.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/installation.h"
#include "base/status_macros.h"
#include "engine/evict/budget_curve.h"
#include "engine/model/fingerprint.h"

namespace lukv {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One run: the batch's prompts one after the other (each alone, as a long prompt is served), then `gen` steps of all.
// The whole prompt is the context: it is what `plan` compresses.
absl::Status RunOnce(const BenchOptions& options, const EvictionPlan* plan, BenchModel& model, Speed& speed) {
  double prefill_s = 0;
  absl::Duration eviction;
  for (int32_t s = 0; s < options.batch; ++s) {
    const auto start = std::chrono::steady_clock::now();
    LUKV_ASSIGN_OR_RETURN(const absl::Duration evicting, model.Prefill(Slot{s}, options.prompt, plan, options.gen));
    prefill_s += SecondsSince(start);
    eviction += evicting;
  }
  speed.prefill_tokens_per_s.push_back(options.batch * options.prompt / prefill_s);
  speed.eviction_share.push_back(absl::ToDoubleSeconds(eviction) / prefill_s);

  const auto start = std::chrono::steady_clock::now();
  for (int32_t step = 0; step < options.gen; ++step) {
    LUKV_RETURN_IF_ERROR(model.Decode(options.batch, options.prompt + step));
  }
  LUKV_RETURN_IF_ERROR(model.backend().Synchronize());
  if (options.gen > 0) speed.decode_tokens_per_s.push_back(options.batch * options.gen / SecondsSince(start));

  const ModelRunner& runner = model.runner();
  const int64_t page_bytes =
      ModelRunner::PageBytes(model.config(), runner.options().kv_dtype, runner.options().page_tokens);
  speed.kv_bytes_full = ModelRunner::KvBytesPerToken(model.config(), runner.options().kv_dtype) * options.batch *
                        (options.prompt + options.gen);
  speed.kv_bytes_resident = page_bytes * model.runner().pool().used();
  model.Release(options.batch);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<EvictionPlan>> MakePlan(const BenchOptions& options, BenchModel& model) {
  LUKV_ASSIGN_OR_RETURN(const Policy policy, ParsePolicy(options.policy));
  if (policy.full) return nullptr;
  const BudgetCurve* curve = nullptr;
  CurveSet curves;
  if (policy.allocator == Allocator::kLuKv) {
    LUKV_ASSIGN_OR_RETURN(const std::string fingerprint, ModelFingerprint(model.source()));
    LUKV_ASSIGN_OR_RETURN(curves, CurveSet::Load(options.curves, ShareFolder("profiles"), model.config(), fingerprint));
    curve = curves.Get(policy.scorer, policy.sink, policy.window);
    if (curve == nullptr) {
      return absl::InvalidArgumentError("there is no budget curve of this model (" + fingerprint + ") for " +
                                        ScorerLabel(policy.scorer, policy.sink, policy.window));
    }
  }
  const int64_t entry_bytes = ModelRunner::PageBytes(model.config(), model.runner().options().kv_dtype, 1);
  LUKV_ASSIGN_OR_RETURN(EvictionPlan plan,
                        EvictionPlan::Make(policy, options.prompt, model.geometry(), entry_bytes, curve));
  return std::make_unique<EvictionPlan>(std::move(plan));
}

absl::StatusOr<Speed> MeasureSpeed(const BenchOptions& options, const EvictionPlan* plan, BenchModel& model) {
  // One run that does not count: touches the pages and brings the caches and clocks to where they stay.
  Speed warm_up;
  LUKV_RETURN_IF_ERROR(RunOnce(options, plan, model, warm_up));
  Speed speed;
  for (int32_t r = 0; r < options.repeat; ++r) LUKV_RETURN_IF_ERROR(RunOnce(options, plan, model, speed));
  return speed;
}

}  // namespace lukv
