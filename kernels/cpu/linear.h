// Linear layers of the CPU backend: packed weights (packed_linear.h) times f32 activations.
#pragma once

#include "kernels/args.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/ops.h"

namespace lukv::cpu {

// See LinearArgs. REQUIRES: args.weight was made by PackLinear (packed_linear.h).
void Linear(const LinearArgs& args, CpuCompute compute, OpContext& context);

}  // namespace lukv::cpu
