// The CPU backend. Chooses its instruction set at run time; LUKV_CPU_TARGET=avx2|avx512|avx512_vnni|
// avx512_bf16 forces one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace lukv {

// Arithmetic of the linear layers.
enum class CpuCompute : uint8_t {
  // Quantised weights: activations are quantised in blocks of 32 with one f32 scale each, to one int8 digit or, where a
  // block holds values that are large for their row, to two (15 bits); products are summed in integers. Float weights:
  // f32 activations. A row with a NaN or an infinity gives NaN outputs. Fast; how near it is to kF32 is measured by
  // tests/engine/model/demo_logits_test.cc.
  kInt8,
  // Weights are dequantised to f32, activations stay f32.
  kF32,
};

// Cores that this process may run on. >= 1.
int UsableCores();

struct CpuBackendOptions {
  int threads = 0;  // 0: one per core that this process may run on.
  CpuCompute compute = CpuCompute::kInt8;
  std::string target;  // One of those; "" = LUKV_CPU_TARGET, else the best there is.
};

// FAILED_PRECONDITION when the CPU lacks AVX2+FMA+F16C or the forced target, naming what there is; INVALID_ARGUMENT
// when threads is negative.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace lukv
