#include "kernels/cuda/gemm.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/cuda/status.h"

namespace lukv::cuda {
namespace {

cudaDataType_t CudaType(DType dtype) { return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

// The largest power of two up to 16 bytes that every row begins at a multiple of.
uint32_t Alignment(const void* data, int64_t stride, DType dtype) {
  const uintptr_t bits =
      reinterpret_cast<uintptr_t>(data) | static_cast<uintptr_t>(stride * Traits(dtype).block_bytes) | uintptr_t{16};
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// Owns what a call to cuBLASLt is described by.
class Descriptors {
 public:
  Descriptors() = default;
  ~Descriptors() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (cublasLtMatrixLayout_t layout : {weight, in, out}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
    if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr;
  cublasLtMatrixLayout_t in = nullptr;
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
};

}  // namespace

struct Gemm::Problem {
  const void* weight;
  const ConstMatrix& in;
  const Matrix& out;

  // cuBLASLt's matrices are stored by columns: it computes out^T = weight in^T, with the weight's rows as columns.
  absl::Status Describe(int64_t rows, Descriptors& d) const {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    LUKV_RETURN_IF_ERROR(
        ToStatus(cublasLtMatmulDescCreate(&d.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate"));
    LUKV_RETURN_IF_ERROR(ToStatus(
        cublasLtMatmulDescSetAttribute(d.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
        "cublasLtMatmulDescSetAttribute"));
    const auto layout = [](cublasLtMatrixLayout_t* to, DType dtype, int64_t rows_, int64_t cols, int64_t stride) {
      return ToStatus(cublasLtMatrixLayoutCreate(to, CudaType(dtype), static_cast<uint64_t>(rows_),
                                                 static_cast<uint64_t>(cols), stride),
                      "cublasLtMatrixLayoutCreate");
    };
    LUKV_RETURN_IF_ERROR(layout(&d.weight, in.dtype, in.cols, out.cols, in.cols));
    LUKV_RETURN_IF_ERROR(layout(&d.in, in.dtype, in.cols, rows, std::max(in.stride, in.cols)));
    return layout(&d.out, out.dtype, out.cols, rows, std::max(out.stride, out.cols));
  }
};

Gemm::~Gemm() {
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

absl::Status Gemm::Open() { return ToStatus(cublasLtCreate(&handle_), "cublasLtCreate"); }

absl::Status Gemm::Choose(const Problem& problem, int64_t rows, cublasLtMatmulAlgo_t* algorithm) {
  Descriptors d;
  LUKV_RETURN_IF_ERROR(problem.Describe(rows, d));
  LUKV_RETURN_IF_ERROR(ToStatus(cublasLtMatmulPreferenceCreate(&d.preference), "cublasLtMatmulPreferenceCreate"));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return ToStatus(cublasLtMatmulPreferenceSetAttribute(d.preference, attribute, &value, sizeof(value)),
                    "cublasLtMatmulPreferenceSetAttribute");
  };
  const uint64_t workspace = kWorkspaceBytes;
  const uint32_t no_split = CUBLASLT_REDUCTION_SCHEME_NONE;
  LUKV_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace));
  LUKV_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, no_split));
  const uint32_t weight = Alignment(problem.weight, problem.in.cols, problem.in.dtype);
  const uint32_t in = Alignment(problem.in.data, problem.in.stride, problem.in.dtype);
  const uint32_t out = Alignment(problem.out.data, problem.out.stride, problem.out.dtype);
  LUKV_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weight));
  LUKV_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, in));
  LUKV_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out));
  LUKV_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out));
  cublasLtMatmulHeuristicResult_t found = {};
  int n_found = 0;
  LUKV_RETURN_IF_ERROR(ToStatus(cublasLtMatmulAlgoGetHeuristic(handle_, d.operation, d.weight, d.in, d.out, d.out,
                                                               d.preference, 1, &found, &n_found),
                                "cublasLtMatmulAlgoGetHeuristic"));
  if (n_found == 0) return absl::InternalError("cuBLASLt: no algorithm for a matrix product");
  *algorithm = found.algo;
  return absl::OkStatus();
}

absl::StatusOr<const cublasLtMatmulAlgo_t*> Gemm::Algorithm(const Problem& problem, int64_t rows) {
  const ConstMatrix& in = problem.in;
  const Matrix& out = problem.out;
  const Key key = {out.cols,
                   in.cols,
                   in.dtype,
                   out.dtype,
                   Alignment(problem.weight, in.cols, in.dtype),
                   Alignment(in.data, in.stride, in.dtype),
                   Alignment(out.data, out.stride, out.dtype),
                   rows};
  auto chosen = algorithms_.find(key);
  if (chosen == algorithms_.end()) {
    cublasLtMatmulAlgo_t algorithm = {};
    LUKV_RETURN_IF_ERROR(Choose(problem, rows, &algorithm));
    chosen = algorithms_.emplace(key, algorithm).first;
  }
  return &chosen->second;
}

absl::Status Gemm::Run(const void* weight, const ConstMatrix& in, const Matrix& out, bool accumulate, bool decode,
                       const OpContext& context) {
  const Problem problem{.weight = weight, .in = in, .out = out};
  LUKV_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t* algorithm, Algorithm(problem, decode ? kDecodeRows : kPrefillRows));
  Descriptors d;
  LUKV_RETURN_IF_ERROR(problem.Describe(in.rows, d));
  void* workspace = nullptr;
  LUKV_RETURN_IF_ERROR(ToStatus(context.workspace->Get(kWorkspaceBytes, &workspace), "cuBLASLt's workspace"));
  const float alpha = 1;
  const float beta = accumulate ? 1.0f : 0.0f;
  const auto multiply = [&] {
    return cublasLtMatmul(handle_, d.operation, &alpha, weight, d.weight, in.data, d.in, &beta, out.data, d.out,
                          out.data, d.out, algorithm, workspace, kWorkspaceBytes, context.stream);
  };
  cublasStatus_t status = multiply();
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
    LUKV_ASSIGN_OR_RETURN(algorithm, Algorithm(problem, in.rows));
    status = multiply();
  }
  return ToStatus(status, "cublasLtMatmul");
}

}  // namespace lukv::cuda
