// Rows of K or V in staging, each read by kRowLanes lanes that follow each other: a warp has four rows at once.
#pragma once

#include "kernels/args.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/vectors.h"
#include "kernels/evict_args.h"

namespace lukv::cuda {

inline constexpr int kMaxHeadDim = 256;
inline constexpr int kRowLanes = 8;
inline constexpr int kRowShare = kMaxHeadDim / kRowLanes;  // Elements of a row that a lane has at most.

// The first entry's row of a head, of K or V as `base` says.
template <typename T>
LUKV_DEVICE const T* StagedRow(const StagedContext& context, const void* base, int32_t head) {
  return static_cast<const T*>(base) +
         StagingRow(context.staging, head, context.context_row) * context.staging.head_dim;
}

// Host: whether rows may be read as vectors.
inline bool StagedVectors(const StagingView& staging) {
  const int64_t row_bytes = staging.head_dim * ElementBytes(staging.dtype);
  return IsVectorAligned(staging.k, row_bytes) && IsVectorAligned(staging.v, row_bytes);
}

// Dimension of element i of this lane's share. The lane has them in vectors, every kRowLanes-th vector of the row.
template <typename T>
LUKV_DEVICE int RowDimension(int i) {
  constexpr int kCount = kVector<T>;
  return (i / kCount * kRowLanes + Lane() % kRowLanes) * kCount + i % kCount;
}

// Zeros from head_dim on.
template <typename T>
LUKV_DEVICE void LoadRowShare(const T* row, int32_t head_dim, bool vectors, float (&x)[kRowShare]) {
  constexpr int kCount = kVector<T>;
#pragma unroll
  for (int i = 0; i < kRowShare; i += kCount) {
    const int32_t at = RowDimension<T>(i);
    float part[kCount] = {};
    if (at < head_dim) LoadElements(row + at, head_dim - at, vectors, part);
#pragma unroll
    for (int j = 0; j < kCount; ++j) x[i + j] = part[j];
  }
}

// Sum over the lanes of a row, the same in all of them.
LUKV_DEVICE float RowSum(float value) {
#pragma unroll
  for (int offset = kRowLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

LUKV_DEVICE float RowDot(const float (&a)[kRowShare], const float (&b)[kRowShare]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kRowShare; ++i) sum = fmaf(a[i], b[i], sum);
  return RowSum(sum);
}

}  // namespace lukv::cuda
