// Choosing a device at run time. CUDA lives in a module of its own, which is opened only when it is asked for: programs
// start on machines without CUDA, and can be built there.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace lukv {

struct DeviceOptions {
  std::string device = "auto";  // "cpu", "cuda", "cuda:N", or "auto": the first CUDA device, if there is one.
  CpuBackendOptions cpu;
  CudaBackendOptions cuda;  // Its `device` comes from the name above.
};

// INVALID_ARGUMENT: not such a name. UNAVAILABLE: no CUDA module (with where it was looked for), or no device.
// The module is lib/lukv/liblukv_cuda.so beside the program's bin/, or what the variable LUKV_CUDA_LIBRARY names.
// why_not_cuda, if given: set to the reason when "auto" fell back on the CPU.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const DeviceOptions& options, std::string* why_not_cuda = nullptr);

// The form of `device` alone, so that a wrong flag is found before a model is read.
absl::Status CheckDeviceName(const std::string& device);

}  // namespace lukv
