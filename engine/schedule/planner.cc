#include "engine/schedule/planner.h"

namespace lukv {

StepPlan Plan(const PlanInput& input) {
  StepPlan plan;
  plan.decode = input.decodable > 0;
  plan.prefill_unit = input.prefilling;
  if (input.prefilling) return plan;
  int32_t tokens = 0;
  int32_t slots = 0;
  uint32_t pages = 0;
  for (const WaitingRequest& request : input.waiting) {
    const bool fits_memory =
        slots + request.slots <= input.free_slots && request.pages <= input.uncommitted_pages - pages;
    const bool fits_unit = plan.admit == 0 || tokens + request.tokens <= input.prefill_chunk;
    if (!fits_memory || !fits_unit) break;
    ++plan.admit;
    tokens += request.tokens;
    slots += request.slots;
    pages += request.pages;
  }
  plan.prefill_unit = plan.admit > 0;
  return plan;
}

}  // namespace lukv
