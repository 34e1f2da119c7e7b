// The fastest copy and the fastest matrix product of a device: what its other ops are judged by.
#pragma once

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cost.h"

namespace lukv {

struct Peaks {
  double bytes_per_s = 0;  // Read and written
  double flops_per_s = 0;
  // Of a CPU that multiplies quantised weights with int8 activations (cpu_peaks.h), else 0.
  double int8_ops_per_s = 0;
  double fork_join_s = 0;
};

// A large GatherRows and a large square Linear of bf16 weights, each the best of a few. Large: grown until a call takes
// 10 ms, or 1 GiB each way and 8192.
absl::StatusOr<Peaks> MeasurePeaks(Backend& backend);

// The least time for an op on a device of such peaks.
double FloorSeconds(const OpCost& cost, const Peaks& peaks);

}  // namespace lukv
