// Matrix products with dense weights through cuBLASLt.
#pragma once

#include <cublasLt.h>

#include <map>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {

class Gemm {
 public:
  Gemm() = default;
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  absl::Status Open();

  // Device bytes that cuBLASLt may use, taken from the ops' workspace.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // out = in weight^T (+ out). weight: [out.cols, in.cols] of in's dtype, dense. Sums are in f32.
  //
  // The algorithm depends on the weight's shape and the alignment of the operands, never on the number of rows, and
  // never splits the sums over blocks: so a row's bits do not depend on how many other rows there are. It is chosen
  // once (the heuristic is asked for kDecodeRows or kPrefillRows rows).
  absl::Status Run(const void* weight, const ConstMatrix& in, const Matrix& out, bool accumulate, bool decode,
                   const OpContext& context);

 private:
  static constexpr int64_t kDecodeRows = 16;
  static constexpr int64_t kPrefillRows = 512;
  // out.cols, in.cols, dtypes, alignments of weight, in, out, rows that it is chosen for
  using Key = std::tuple<int64_t, int64_t, DType, DType, uint32_t, uint32_t, uint32_t, int64_t>;

  struct Problem;
  // The algorithm for `rows` rows, which is looked for once.
  absl::StatusOr<const cublasLtMatmulAlgo_t*> Algorithm(const Problem& problem, int64_t rows);
  absl::Status Choose(const Problem& problem, int64_t rows, cublasLtMatmulAlgo_t* algorithm);

  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace lukv::cuda
