// Decides what the next step does. Pure functions of numbers: no device, no thread, no tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"

namespace lukv {

// A request that waits for admission.
struct WaitingRequest {
  int32_t tokens = 0;      // That have to be computed before it can go on.
  int32_t slots = 0;       // Samples.
  uint32_t pages = 0;      // That it needs to start, with its reserve.
  bool held_back = false;  // Waits for a context that is being computed; those behind it need not wait with it.
};

// A request that was admitted and has not ended.
struct RunningRequest {
  int32_t rows = 0;     // Samples that can take a token now: the prompt is done and the consumer has room. 0: none.
  uint32_t top_up = 0;  // Pages that they need before that: their reserve is used up.
};

struct PlanInput {
  // Both in order of standing, first come first served within a priority; whoever stands last gives way first.
  std::vector<WaitingRequest> waiting;
  std::vector<RunningRequest> running;
  int32_t free_slots = 0;
  uint32_t free_pages = 0;     // That nobody holds or was promised,
  uint32_t reclaimable = 0;    // and those that cached contexts give way with.
  std::vector<uint32_t> held;  // [running] pages that come free if the request is preempted.
  int32_t prefill_chunk = 0;   // Tokens of a unit.
  bool long_prefill = false;   // A group of more tokens than that is under way,
  bool short_prefill = false;  // and one of no more.
};

struct StepPlan {
  std::vector<int32_t> preempt;  // Of `running`.
  std::vector<int32_t> decode;   // Of `running`, in order.
  std::vector<int32_t> admit;    // Of `waiting`: they form a new prefill group.
};

// Decode. Everybody who can take a token does. Those who need pages for it get them in order of standing; if there are
// none left the request that stands last is preempted, which may be the one that asked.
// Admission. In order; a request that does not fit yet holds back those behind it, so that none starves. A group is one
// request, or several whose tokens fit into one unit. One group of each length may be under way, so that short prompts
// do not wait for a long one. Nobody is admitted in a step that preempts.
StepPlan Plan(const PlanInput& input);

// Time for prefill units in a step whose decode part takes `decode`. `max_step`: EngineOptions::max_step.
absl::Duration PrefillTime(absl::Duration decode, absl::Duration max_step);

// Rows of the next unit, of `most` at most: as many as `expect` says fit into `time`, in whole tiles, one tile at
// least.
int32_t UnitRows(int32_t most, absl::Duration time, const std::function<absl::Duration(int32_t rows)>& expect);

// Rows that kernels work on together; fewer cost nearly as much.
inline constexpr int32_t kUnitTile = 32;

}  // namespace lukv
