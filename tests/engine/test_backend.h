// The device that tests of the engine and the model compute on.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "kernels/device.h"

namespace lukv {

// "cpu", or, where LUKV_CUDA_LIBRARY names a module, "cuda".
inline std::string TestDevice() {
  const char* const module = std::getenv("LUKV_CUDA_LIBRARY");
  return module != nullptr && *module != '\0' ? "cuda" : "cpu";
}

// The test device's backend; a CUDA device computes in f32: a test's oracle and its tolerances hold for both.
inline std::unique_ptr<Backend> MakeTestBackend(const CpuBackendOptions& cpu, const std::string& device = TestDevice(),
                                                DType cuda_activations = DType::kF32) {
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      MakeBackend({.device = device, .cpu = cpu, .cuda = {.activations = cuda_activations}});
  if (!backend.ok()) std::fprintf(stderr, "%s\n", backend.status().ToString().c_str());
  LUKV_CHECK(backend.ok());
  return *std::move(backend);
}

}  // namespace lukv
