// From run-time dtypes to the kernels' template parameters.
#pragma once

#include <cuda_bf16.h>

#include "kernels/dtype.h"

namespace lukv::cuda {

// Calls f.operator()<T>() with T = float or __nv_bfloat16. REQUIRES: dtype is kF32 or kBF16.
template <typename F>
auto DispatchFloat(DType dtype, F&& f) {
  return dtype == DType::kF32 ? f.template operator()<float>() : f.template operator()<__nv_bfloat16>();
}

}  // namespace lukv::cuda
