// Linear layers of the CPU backend.
#pragma once

#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/ops.h"

namespace lukv::cpu {

// See Backend::PackLinear. The result is for Linear below, with any context.
absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts, OpContext& context);

// See LinearArgs. REQUIRES: args.weight was made by PackLinear above.
void Linear(const LinearArgs& args, CpuCompute compute, OpContext& context);

}  // namespace lukv::cpu
