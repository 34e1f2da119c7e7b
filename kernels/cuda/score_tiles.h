// Tiles of keys in shared memory for the scorers that multiply in f32.
#pragma once

#include "kernels/cuda/staged_rows.h"

namespace lukv::cuda {

inline constexpr int kTileEntries = 64;
inline constexpr float kLog2E = 1.44269504088896341f;

// to[d * kRows + r] = element d of row r * row_stride of `rows`, times `scale`, for d < padded_dim: the n first of
// kRows rows exist, and head_dim elements of each; the rest is zeros. All kBlockThreads threads of the block, a
// multiple of kRows, must call; none may read before a barrier.
template <int kRows, int kBlockThreads, typename T>
LUKV_DEVICE void LoadTransposed(const T* rows, int64_t row_stride, int32_t n, int32_t head_dim, int32_t padded_dim,
                                bool vectors, float scale, float* to) {
  static_assert(kBlockThreads % kRows == 0);
  constexpr int kCount = kVector<T>;
  // Lanes have different rows, so that their writes go to different banks.
  const int32_t r = static_cast<int32_t>(threadIdx.x) % kRows;
  const T* const row = rows + r * row_stride;
  for (int32_t d = static_cast<int32_t>(threadIdx.x) / kRows * kCount; d < padded_dim;
       d += kBlockThreads / kRows * kCount) {
    float x[kCount] = {};
    if (r < n && d < head_dim) LoadElements(row + d, head_dim - d, vectors, x);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (d + i < padded_dim) to[(d + i) * kRows + r] = x[i] * scale;
    }
  }
}

}  // namespace lukv::cuda
