#include "engine/schedule/planner.h"

#include <algorithm>
#include <cstddef>

namespace lukv {
namespace {

void PlanDecode(const PlanInput& input, StepPlan& plan, int64_t& available) {
  size_t last = input.running.size();  // Those from here on were preempted.
  for (size_t i = 0; i < last; ++i) {
    const RunningRequest& request = input.running[i];
    if (request.rows == 0) continue;
    while (request.top_up > available && last > i) {
      --last;
      plan.preempt.push_back(static_cast<int32_t>(last));
      available += input.held[last];
    }
    if (last <= i) break;  // It gave way itself.
    available -= request.top_up;
    plan.decode.push_back(static_cast<int32_t>(i));
  }
}

void PlanAdmission(const PlanInput& input, StepPlan& plan, int64_t available) {
  if (!plan.preempt.empty()) return;
  int32_t tokens = 0;
  int32_t slots = 0;
  for (size_t i = 0; i < input.waiting.size(); ++i) {
    const WaitingRequest& request = input.waiting[i];
    if (request.held_back) continue;
    if (slots + request.slots > input.free_slots || request.pages > available) break;
    const bool is_long = tokens + request.tokens > input.prefill_chunk;
    if (is_long && (input.long_prefill || !plan.admit.empty())) break;
    if (!is_long && input.short_prefill) break;
    plan.admit.push_back(static_cast<int32_t>(i));
    tokens += request.tokens;
    slots += request.slots;
    available -= request.pages;
    if (is_long) break;
  }
}

}  // namespace

StepPlan Plan(const PlanInput& input) {
  StepPlan plan;
  int64_t available = int64_t{input.free_pages} + input.reclaimable;
  PlanDecode(input, plan, available);
  PlanAdmission(input, plan, available);
  return plan;
}

absl::Duration PrefillTime(absl::Duration decode, absl::Duration max_step) {
  if (max_step > absl::ZeroDuration()) return std::max(max_step - decode, absl::ZeroDuration());
  // What is emitted between two steps takes time as well.
  return 0.7 * decode;
}

int32_t UnitRows(int32_t most, absl::Duration time, const std::function<absl::Duration(int32_t rows)>& expect) {
  int32_t fits = 1;  // Tiles
  int32_t too_many = (most + kUnitTile - 1) / kUnitTile + 1;
  while (too_many - fits > 1) {
    const int32_t tiles = fits + (too_many - fits) / 2;
    (expect(std::min(most, tiles * kUnitTile)) <= time ? fits : too_many) = tiles;
  }
  return std::min(most, fits * kUnitTile);
}

}  // namespace lukv
