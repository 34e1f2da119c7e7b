// What a server's memory on the device goes to, settled before anything but the weights is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "engine/model/runner.h"
#include "kernels/backend.h"

namespace lukv {

// Bytes on the device.
struct MemoryPlan {
  int64_t total = 0;   // Of the device.
  int64_t free = 0;    // Before the weights were loaded.
  int64_t usable = 0;  // What the server may take of that.
  int64_t weights = 0;
  int64_t buffers = 0;    // Activations of a unit or a step, logits, the page table.
  int64_t workspace = 0;  // What ops take for themselves.
  int64_t staging = 0;    // Hidden states and one layer's K and V of the longest prompt.
  int64_t pages = 0;
  int64_t n_pages = 0;

  int64_t sum() const { return weights + buffers + workspace + staging + pages; }
  // What the sum is made of, by name: "weights", "buffers", ...
  std::vector<std::pair<const char*, int64_t>> parts() const;
};

struct MemoryRequest {
  MemoryInfo before;         // Of the device, before the weights were loaded.
  int64_t weight_bytes = 0;  // As loaded.
  int64_t workspace_bytes = 0;
  DType activations = DType::kF32;
  double utilization = 0.9;     // Share of the free memory that may be taken.
  int64_t kv_memory_bytes = 0;  // For pages; 0: all that is left, on a host 2 GiB at most (before.host).
};

// RESOURCE_EXHAUSTED, with the sum, if it does not fit or leaves no page for each head; INVALID_ARGUMENT if
// kv_memory_bytes is too little for that. options.n_pages is not looked at.
absl::StatusOr<MemoryPlan> PlanMemory(const MemoryRequest& request, const ModelConfig& config,
                                      const RunnerOptions& options);

// The plan as a table, a line for each part, for the log.
std::string MemoryTable(const MemoryPlan& plan);

}  // namespace lukv
