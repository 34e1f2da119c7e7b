// What every kernel file includes: the CUDA language as this project uses it. The same sources are compiled twice, by
// nvcc for devices and by g++ against kernels/emulator, so kernels keep to what both offer:
//   - shared memory is declared with LUKV_SHARED and LUKV_DYNAMIC_SHARED, never with a bare __shared__;
//   - kernels are launched with Launch (launch.h), never with <<<>>>, and have external linkage in namespace
//   lukv::cuda;
//   - inline PTX is only in mma.h, async_copy.h and fast_math.h, where the emulated body stands beside it;
//   - lanes of a warp talk through the *_sync functions with the mask kFullWarp, or a mask that names all who call.
#pragma once

#include <cstdint>

#ifdef LUKV_CUDA_EMULATED
#include "kernels/emulator/device.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// An array of `count` (a constant) elements in the block's shared memory, 16-byte aligned. Not to be used in sizeof.
#define LUKV_SHARED(type, name, count) __shared__ __align__(16) type name[count]
// The shared memory that the launch asked for, 16-byte aligned.
#define LUKV_DYNAMIC_SHARED(type, name)                        \
  extern __shared__ __align__(16) uint4 lukv_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(lukv_dynamic_shared)
#endif

#define LUKV_DEVICE __device__ __forceinline__

namespace lukv::cuda {

inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr int kWarp = 32;

LUKV_DEVICE int Lane() { return static_cast<int>(threadIdx.x) % kWarp; }
LUKV_DEVICE int Warp() { return static_cast<int>(threadIdx.x) / kWarp; }

// Of all 32 lanes, in a fixed order (a butterfly): every lane gets the same bits.
LUKV_DEVICE float WarpSum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}
LUKV_DEVICE float WarpMax(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  return value;
}

// Activations and cache entries are float or __nv_bfloat16; all arithmetic is in float.
template <typename T>
LUKV_DEVICE float ToFloat(T value) {
  return static_cast<float>(value);
}
template <typename T>
LUKV_DEVICE T FromFloat(float value) {
  return static_cast<T>(value);
}
template <>
LUKV_DEVICE __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
LUKV_DEVICE float ToFloat<__nv_bfloat16>(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

}  // namespace lukv::cuda
