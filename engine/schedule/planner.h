// Decides what the next step does. A pure function of numbers: no device, no thread, no tensors.
#pragma once

#include <cstdint>
#include <vector>

namespace lukv {

// A request that waits for admission, oldest first.
struct WaitingRequest {
  int32_t tokens = 0;  // Of the prompt.
  int32_t slots = 0;   // Samples.
  uint32_t pages = 0;  // The most that it can come to hold: all samples, prompt and max_tokens.
};

struct PlanInput {
  std::vector<WaitingRequest> waiting;
  int32_t free_slots = 0;
  uint32_t uncommitted_pages = 0;  // Pages that no admitted request may come to need.
  int32_t prefill_chunk = 0;       // Tokens of a unit.
  bool prefilling = false;         // A group is under way.
  int32_t decodable = 0;           // Running sequences whose consumer has room for a token.
};

struct StepPlan {
  int32_t admit = 0;  // So many of the waiting requests form the next prefill group.
  bool prefill_unit = false;
  bool decode = false;

  bool idle() const { return !prefill_unit && !decode; }
};

// First come, first admitted: a request that does not fit yet holds back those behind it, so that none starves. A new
// group starts when the last one is done: the first request alone, whatever its length, and those behind it as long as
// all of them fit into one unit. Each step runs at most one unit beside the decode step, so that running sequences wait
// for one unit, never for a whole prompt.
StepPlan Plan(const PlanInput& input);

}  // namespace lukv
