// Where a prefill, decode steps and eviction spend their time, op by op.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/op_timer.h"

namespace lukv {

struct PhaseOps {
  std::string phase;  // "prefill", "decode", "eviction snapkv", ...
  std::vector<OpSum> ops;
  std::vector<OpEvent> events;  // Of the same calls.
};

// Uniform allocation, four fifths removed.
inline constexpr double kBenchRatio = 0.8;

// A prompt without eviction, into slot 0, which is left open with room for `room` tokens.
absl::StatusOr<PhaseOps> PrefillOps(BenchModel& model, int32_t prompt, int32_t room);
// `steps` steps of slots 0..batch-1, which are open, with a choice of their tokens; one step before them does not
// count.
absl::StatusOr<PhaseOps> DecodeOps(BenchModel& model, int32_t batch, int32_t steps, int32_t position);
// What a prompt's eviction adds to its prefill, for each of SnapKV, KeyDiff and ExpectedAttention. Slot 0 is free.
absl::StatusOr<std::vector<PhaseOps>> EvictionOps(BenchModel& model, int32_t prompt);

// All of it: prompts of a batch, one of them recorded, then decode steps, then eviction. steps = 0: no decode.
absl::StatusOr<std::vector<PhaseOps>> MeasureOps(BenchModel& model, int32_t batch, int32_t prompt, int32_t steps);

}  // namespace lukv
