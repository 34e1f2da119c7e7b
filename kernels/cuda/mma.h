// Tensor core instructions on bf16 with f32 accumulation. The PTX ISA manual states how a fragment's elements lie over
// the lanes ("Matrix Fragments for mma.m16n8k16", "ldmatrix"); the emulated bodies (kernels/emulator) follow it.
// All 32 lanes of a warp must call together.
#pragma once

#include "kernels/cuda/device.h"

namespace lukv::cuda {

#ifdef LUKV_CUDA_EMULATED
using emulator::LoadMatrices;
using emulator::LoadMatricesTransposed;
using emulator::MultiplyAdd;
#else

// d += a b: a is 16 x 16 (row), b is 16 x 8 (column), d is 16 x 8.
// (mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32)
LUKV_DEVICE void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements from shared memory: lane l gives the address of row l % 8 of matrix l / 8 (16
// bytes, 16-byte aligned). (ldmatrix.sync.aligned.m8n8.x4.shared.b16)
LUKV_DEVICE void LoadMatrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
LUKV_DEVICE void LoadMatricesTransposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
#endif

// Two floats as bf16, the first in the low half.
LUKV_DEVICE uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

}  // namespace lukv::cuda
