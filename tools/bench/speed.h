// How fast a model runs: the speeds of a whole prefill and of decode steps.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/options.h"

namespace lukv {

struct Speed {
  std::vector<double> prefill_tokens_per_s;  // One value per repeat.
  std::vector<double> decode_tokens_per_s;   // Of all sequences together.
  std::vector<double> eviction_share;        // Of the prefill's time.
  int64_t kv_bytes_full = 0;                 // At the end of the run, all sequences.
  int64_t kv_bytes_resident = 0;
};

// What the policy keeps of a prompt; null: everything.
absl::StatusOr<std::unique_ptr<EvictionPlan>> MakePlan(const BenchOptions& options, BenchModel& model);

absl::StatusOr<Speed> MeasureSpeed(const BenchOptions& options, const EvictionPlan* plan, BenchModel& model);

}  // namespace lukv
