// What happens to one prompt at the end of each layer of its prefill: statistics of its queries while the layer's
// chunks run, then score -> budgets -> select. Used by the runner alone; knows nothing of pages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/evict/eviction_plan.h"
#include "engine/evict/policy.h"
#include "kernels/backend.h"

namespace lukv {

// What scorers want to know of a layer beside K and V; the buffers serve one layer after the other.
struct ScorerInputs {
  int32_t window = 0;     // Last queries that are kept: the most that a SnapKV among the scorers asks for.
  bool moments = false;   // An ExpectedAttention is among them.
  DeviceBuffer window_q;  // [window, n_heads * head_dim], rotated
  DeviceBuffer pivot;     // As in QueryMoments.
  DeviceBuffer sum;
  DeviceBuffer products;
  int64_t counted = 0;  // Queries in the moments.
};

// ExpectedAttention leaves the first tokens' queries out: they are outliers (attention sinks).
inline constexpr int32_t kMomentsSkip = 4;

}  // namespace lukv
