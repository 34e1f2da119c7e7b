// Errors of the CUDA libraries as absl::Status.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace lukv::cuda {

// `what` was being done. RESOURCE_EXHAUSTED for memory, INTERNAL otherwise. An error that is not the context's end is
// taken back, so that it does not come up again in the next call.
absl::Status ToStatus(cudaError_t error, absl::string_view what);
absl::Status ToStatus(cublasStatus_t error, absl::string_view what);

}  // namespace lukv::cuda
