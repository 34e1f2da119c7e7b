// The device that tests of the engine and the model compute on.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/check.h"
#include "kernels/device.h"

namespace lukv {

// The CPU, or, where LUKV_CUDA_LIBRARY names a module, its CUDA device in f32: a test's oracle and its tolerances hold
// for both.
inline std::unique_ptr<Backend> MakeTestBackend(const CpuBackendOptions& cpu) {
  const char* const module = std::getenv("LUKV_CUDA_LIBRARY");
  const bool cuda = module != nullptr && *module != '\0';
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      MakeBackend({.device = cuda ? "cuda" : "cpu", .cpu = cpu, .cuda = {.activations = DType::kF32}});
  if (!backend.ok()) std::fprintf(stderr, "%s\n", backend.status().ToString().c_str());
  LUKV_CHECK(backend.ok());
  return *std::move(backend);
}

}  // namespace lukv
