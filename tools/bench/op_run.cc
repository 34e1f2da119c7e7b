#include "tools/bench/op_run.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/evict/policy.h"

namespace lukv {
namespace {

bool IsEviction(std::string_view op) {
  constexpr std::array<std::string_view, 5> kOps = {"QueryMoments", "GatherRows", "AdaptiveBudgets", "SelectTop",
                                                    "Compact"};
  return absl::StartsWith({op.data(), op.size()}, "Score") || std::find(kOps.begin(), kOps.end(), op) != kOps.end();
}

PhaseOps Recorded(std::string phase, BenchModel& model) {
  OpRecord record = model.backend().Stop();
  return {.phase = std::move(phase), .ops = std::move(record.sums), .events = std::move(record.events)};
}

absl::StatusOr<EvictionPlan> UniformPlan(Scorer scorer, BenchModel& model, int32_t prompt) {
  LUKV_ASSIGN_OR_RETURN(const Policy policy,
                        ParsePolicy(absl::StrCat("uniform+", ScorerName(scorer), "@", kBenchRatio)));
  const int64_t entry_bytes = ModelRunner::PageBytes(model.config(), model.runner().options().kv_dtype, 1);
  return EvictionPlan::Make(policy, prompt, model.geometry(), entry_bytes, nullptr);
}

}  // namespace

absl::StatusOr<PhaseOps> PrefillOps(BenchModel& model, int32_t prompt, int32_t room) {
  LUKV_RETURN_IF_ERROR(model.backend().Start(model.Lengths(0, nullptr)));
  LUKV_RETURN_IF_ERROR(model.Prefill(Slot{0}, prompt, nullptr, room).status());
  return Recorded("prefill", model);
}

absl::StatusOr<PhaseOps> DecodeOps(BenchModel& model, int32_t batch, int32_t steps, int32_t position) {
  const std::vector<SampleRow> greedy = [&] {
    std::vector<SampleRow> rows(static_cast<size_t>(batch));
    for (int32_t i = 0; i < batch; ++i) rows[static_cast<size_t>(i)].logits_row = i;
    return rows;
  }();
  const SampleBatch choice{.rows = greedy};
  const auto step = [&](int32_t i) -> absl::Status {
    LUKV_RETURN_IF_ERROR(model.Decode(batch, position + i));
    return model.runner().Sample(choice).status();
  };
  LUKV_RETURN_IF_ERROR(step(0));
  LUKV_RETURN_IF_ERROR(model.backend().Start(model.Lengths(batch, nullptr)));
  for (int32_t i = 1; i <= steps; ++i) LUKV_RETURN_IF_ERROR(step(i));
  return Recorded("decode", model);
}

absl::StatusOr<std::vector<PhaseOps>> EvictionOps(BenchModel& model, int32_t prompt) {
  std::vector<PhaseOps> phases;
  for (const Scorer scorer : {Scorer::kSnapKv, Scorer::kKeyDiff, Scorer::kExpectedAttention}) {
    LUKV_ASSIGN_OR_RETURN(const EvictionPlan plan, UniformPlan(scorer, model, prompt));
    LUKV_RETURN_IF_ERROR(model.backend().Start(model.Lengths(0, &plan)));
    LUKV_RETURN_IF_ERROR(model.Prefill(Slot{0}, prompt, &plan, 0).status());
    PhaseOps phase = Recorded(absl::StrCat("eviction ", ScorerName(scorer)), model);
    std::erase_if(phase.ops, [](const OpSum& sum) { return !IsEviction(sum.op); });
    std::erase_if(phase.events, [](const OpEvent& event) { return !IsEviction(event.op); });
    phases.push_back(std::move(phase));
    model.Release(1);
  }
  return phases;
}

absl::StatusOr<std::vector<PhaseOps>> MeasureOps(BenchModel& model, int32_t batch, int32_t prompt, int32_t steps) {
  std::vector<PhaseOps> phases;
  const int32_t room = steps == 0 ? 0 : steps + 1;
  LUKV_ASSIGN_OR_RETURN(PhaseOps prefill, PrefillOps(model, prompt, room));
  phases.push_back(std::move(prefill));
  if (steps > 0) {
    for (int32_t s = 1; s < batch; ++s) LUKV_RETURN_IF_ERROR(model.Prefill(Slot{s}, prompt, nullptr, room).status());
    LUKV_ASSIGN_OR_RETURN(PhaseOps decode, DecodeOps(model, batch, steps, prompt));
    phases.push_back(std::move(decode));
  }
  model.Release(steps > 0 ? batch : 1);
  LUKV_ASSIGN_OR_RETURN(std::vector<PhaseOps> evictions, EvictionOps(model, prompt));
  phases.insert(phases.end(), evictions.begin(), evictions.end());
  return phases;
}

}  // namespace lukv
