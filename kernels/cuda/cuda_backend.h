// The CUDA backend. Lives in a module of its own (lukv_cuda) that programs open at run time: kernels/device.h.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace lukv {

struct CudaBackendOptions {
  int device = 0;
  // kBF16, or kF32: everything in f32, dense weights too; for checking results, several times slower.
  DType activations = DType::kBF16;
};

// UNAVAILABLE: no such device, or a driver that is too old; FAILED_PRECONDITION: the device is older than sm_80.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

// What the module exports. Programs and module must be of one build.
inline constexpr char kCudaModuleEntry[] = "lukv_make_cuda_backend";
using CudaModuleEntry = void (*)(const char* version, const CudaBackendOptions& options,
                                 absl::StatusOr<std::unique_ptr<Backend>>* backend);

}  // namespace lukv
