// The query and output rows of attention kernels: matrices of activations, float or bf16, whose rows need not be
// aligned.
#pragma once

#include "kernels/args.h"
#include "kernels/cuda/mma.h"

namespace lukv::cuda {

// Whether rows may be read and written 16 bytes at a time. For the host.
inline bool AttentionRowsAligned(const ConstMatrix& m) {
  const uint64_t element = m.dtype == DType::kF32 ? sizeof(float) : sizeof(__nv_bfloat16);
  const uint64_t stride = m.rows > 1 ? static_cast<uint64_t>(m.stride) * element : 0;
  return (reinterpret_cast<uintptr_t>(m.data) | stride) % 16 == 0;
}

LUKV_DEVICE float AttentionLoad(const ConstMatrix& m, int64_t row, int64_t col) {
  return m.dtype == DType::kF32 ? m.row<float>(row)[col] : ToFloat(m.row<__nv_bfloat16>(row)[col]);
}

// Two neighbouring elements as bf16. col is even.
LUKV_DEVICE uint32_t AttentionLoadPair(const ConstMatrix& m, bool aligned, int64_t row, int64_t col) {
  if (aligned && m.dtype == DType::kBF16) {
    return *reinterpret_cast<const uint32_t*>(m.row<__nv_bfloat16>(row) + col);
  }
  return PackBf16(AttentionLoad(m, row, col), AttentionLoad(m, row, col + 1));
}

// Eight of them. col is a multiple of 8.
LUKV_DEVICE uint4 AttentionLoadEight(const ConstMatrix& m, bool aligned, int64_t row, int64_t col) {
  if (aligned && m.dtype == DType::kBF16) {
    return *reinterpret_cast<const uint4*>(m.row<__nv_bfloat16>(row) + col);
  }
  return {AttentionLoadPair(m, false, row, col), AttentionLoadPair(m, false, row, col + 2),
          AttentionLoadPair(m, false, row, col + 4), AttentionLoadPair(m, false, row, col + 6)};
}

LUKV_DEVICE void AttentionStore(const Matrix& m, int64_t row, int64_t col, float value) {
  if (m.dtype == DType::kF32) {
    m.row<float>(row)[col] = value;
  } else {
    m.row<__nv_bfloat16>(row)[col] = FromFloat<__nv_bfloat16>(value);
  }
}

LUKV_DEVICE void AttentionStorePair(const Matrix& m, bool aligned, int64_t row, int64_t col, float first,
                                    float second) {
  if (aligned && m.dtype == DType::kBF16) {
    *reinterpret_cast<uint32_t*>(m.row<__nv_bfloat16>(row) + col) = PackBf16(first, second);
  } else if (aligned) {
    *reinterpret_cast<float2*>(m.row<float>(row) + col) = {first, second};
  } else {
    AttentionStore(m, row, col, first);
    AttentionStore(m, row, col + 1, second);
  }
}

}  // namespace lukv::cuda
