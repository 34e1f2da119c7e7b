#include "kernels/cuda/status.h"

#include "absl/strings/str_cat.h"

namespace lukv::cuda {

absl::Status ToStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // Clears it, unless it is one that stays.
  const std::string message = absl::StrCat("CUDA: ", absl::NullSafeStringView(cudaGetErrorName(error)), " (",
                                           absl::NullSafeStringView(cudaGetErrorString(error)), ") in ", what);
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

absl::Status ToStatus(cublasStatus_t error, absl::string_view what) {
  if (error == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message = absl::StrCat("cuBLASLt: status ", static_cast<int>(error), " in ", what);
  return error == CUBLAS_STATUS_ALLOC_FAILED ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

}  // namespace lukv::cuda
