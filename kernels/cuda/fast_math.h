// Arithmetic of the special function units that CUDA has no intrinsic for.
#pragma once

#include "kernels/cuda/device.h"

namespace lukv::cuda {

// 2^x, off by 2 units in the last place at most; 0 for results below 2^-126. exp2f alone would spend three more
// instructions on these, which softmax weights have no use for. (ex2.approx.ftz.f32)
LUKV_DEVICE float FastExp2(float x) {
#ifdef LUKV_CUDA_EMULATED
  return x < -126.0f ? 0.0f : exp2f(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
#endif
}

}  // namespace lukv::cuda
