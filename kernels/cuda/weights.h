// How the CUDA backend keeps weights. Float types are converted to the activations' dtype. Quantised types stay as the
// file has them, for a decode step reads all weights once and is bound by their bytes: there a fused GEMV unpacks them
// in registers (all six types: 4.5 to 8.5 bits a weight instead of 16). A prefill, which reads them for hundreds of
// rows at once, unpacks a weight to the activations' dtype first and hands it to cuBLASLt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {

// Rows of one tensor on the device: dense (the activations' dtype) or in a quantised type's blocks.
struct WeightRows {
  DType dtype = DType::kBF16;
  int64_t rows = 0;
  int64_t cols = 0;
  const void* data = nullptr;

  constexpr bool quantised() const { return dtype != DType::kF32 && dtype != DType::kBF16; }
};

// out = W in^T (+ bias) (+ out) for quantised rows, W unpacked in registers. Each row's sums go in the same order
// whatever the number of rows.
struct QuantisedLinearArgs {
  WeightRows weight;
  const float* bias = nullptr;  // Of the weight's rows, or null.
  ConstMatrix in;
  Matrix out;  // Columns of the weight's rows only.
  bool accumulate = false;
};
cudaError_t QuantisedLinear(const QuantisedLinearArgs& args, const OpContext& context);

// Unpacks all rows to `out`, [rows, cols] of `dtype` (kF32 or kBF16).
cudaError_t Unpack(const WeightRows& weight, DType dtype, void* out, const OpContext& context);

// out[i] = row ids[i] of the table.
cudaError_t Embed(const WeightRows& table, const int32_t* ids, const Matrix& out, const OpContext& context);

// out[r][c] = bias[c], or += with `accumulate`.
cudaError_t AddBias(const float* bias, bool accumulate, const Matrix& out, const OpContext& context);

// to[index[i]] = value[i]; no index twice. updates: device.
cudaError_t Scatter(uint32_t* to, const ScatterUpdate* updates, int32_t n, const OpContext& context);

}  // namespace lukv::cuda
