// The least time that a model's prefills, decode steps and evictions can take on a device of given peaks: the real
// forward on a device that computes nothing, and the costs of its ops.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "tools/bench/op_run.h"
#include "tools/bench/peaks.h"

namespace lukv {

struct RooflineCase {
  int32_t batch = 1;
  int32_t context = 0;   // Tokens
  double kept = 1;       // Part of the context's entries that are there, in decode steps.
  int64_t resident = 0;  // Bytes of weights and KV.
  PhaseOps ops;          // Of one decode step, or of one prompt.
  double floor_s = 0;    // Sum over the ops.
};

// Decode steps of `batches` sequences at each context, full and compressed; then a prefill of each context, and what
// each scorer adds to it.
absl::StatusOr<std::vector<RooflineCase>> Roofline(const ModelConfig& config, const std::vector<int32_t>& batches,
                                                   const std::vector<int32_t>& contexts, int32_t prefill_chunk,
                                                   const Peaks& peaks);

}  // namespace lukv
