// Attention on tensor cores: what one warp does with a tile of keys and values that lies in shared memory. Its query
// rows come in row tiles of 16, the height of an mma; entries of a row tile lie over the lanes as the instruction has
// them: a lane holds of row lane / 4 (half 0) and of row lane / 4 + 8 (half 1) the columns 2 (lane % 4) and the next.
//
// The softmax is an online one (Milakov & Gimelshein, arXiv 1805.02867), in powers of 2 with the scale of the scores
// folded into the exponent. Weights are rounded to bf16 for the product with V, and their sum is taken of the rounded
// ones, by the same instruction: as if V had one more column, all ones. What V has in common in all entries thus comes
// out unharmed. Everything that happens to a row depends on that row and its entries alone, and a tile that it sees
// nothing of changes nothing.
#pragma once

#include "kernels/cuda/fast_math.h"
#include "kernels/cuda/mma.h"

namespace lukv::cuda {

inline constexpr float kAttentionLog2E = 1.44269504088896341f;
inline constexpr float kAttentionHidden = -INFINITY;  // Score of an entry that a row does not see.

// Elements from one row of K, V or Q to the next in shared memory. With 16 bytes more than a row has, the eight rows of
// an ldmatrix lie in different banks.
template <int kHeadDim>
inline constexpr int kAttentionStride = kHeadDim + 8;

// The running sums of a warp's row tiles.
template <int kRowTiles, int kDimTiles>
struct AttentionSums {
  float acc[kRowTiles][kDimTiles][4];  // Of weight * V
  float sum[kRowTiles][4];             // Of weights; the two columns of a half are the same.
  float max[kRowTiles][2];             // Greatest scaled score so far

  LUKV_DEVICE void Reset() {
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[t][i] = 0;
#pragma unroll
        for (int n = 0; n < kDimTiles; ++n) acc[t][n][i] = 0;
      }
      max[t][0] = max[t][1] = kAttentionHidden;
    }
  }
};

// s = q k^T for kKeyTiles times 8 keys, the first of which is at `keys`. load_query(a, t, k) gives row tile t's
// fragment of the dimensions [16 k, 16 k + 16).
template <int kHeadDim, int kRowTiles, int kKeyTiles, typename LoadQuery>
LUKV_DEVICE void AttentionScores(const __nv_bfloat16* keys, const LoadQuery& load_query,
                                 float (&s)[kRowTiles][kKeyTiles][4]) {
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) s[t][n][0] = s[t][n][1] = s[t][n][2] = s[t][n][3] = 0;
  }
  const __nv_bfloat16* const lane_keys =
      keys + (Lane() / 16 * 8 + Lane() % 8) * kAttentionStride<kHeadDim> + Lane() / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < kHeadDim; k += 16) {
    uint32_t q[kRowTiles][4];
#pragma unroll
    for (int t = 0; t < kRowTiles; ++t) load_query(q[t], t, k / 16);
#pragma unroll
    for (int n = 0; n < kKeyTiles; n += 2) {
      uint32_t b[4];
      LoadMatrices(b, lane_keys + n * 8 * kAttentionStride<kHeadDim> + k);
      const uint32_t first[2] = {b[0], b[1]};
      const uint32_t second[2] = {b[2], b[3]};
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        MultiplyAdd(s[t][n], q[t], first);
        MultiplyAdd(s[t][n + 1], q[t], second);
      }
    }
  }
}

// The first key is entry `first`; visible[t][half] entries are seen by a row.
template <int kRowTiles, int kKeyTiles>
LUKV_DEVICE void AttentionMask(int first, const int (&visible)[kRowTiles][2], float (&s)[kRowTiles][kKeyTiles][4]) {
  const int column = first + Lane() % 4 * 2;
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (column + n * 8 + i % 2 >= visible[t][i / 2]) s[t][n][i] = kAttentionHidden;
      }
    }
  }
}

// The greatest score of each row, in all four lanes that hold it.
template <int kRowTiles, int kKeyTiles>
LUKV_DEVICE void AttentionRowMax(const float (&s)[kRowTiles][kKeyTiles][4], float (&highest)[kRowTiles][2]) {
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = kAttentionHidden;
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) most = fmaxf(most, fmaxf(s[t][n][2 * half], s[t][n][2 * half + 1]));
      most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
      highest[t][half] = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2));
    }
  }
}

// What is subtracted from a scaled score whose row has the maximum `max` so far: anything, if the row has seen nothing.
LUKV_DEVICE float AttentionBase(float max) { return max == kAttentionHidden ? 0.0f : max; }

// Brings the maxima up to date with a tile's, and the sums that were taken with the old ones. kDims: how many of the
// dimension tiles are in use.
template <int kDims, int kRowTiles, int kDimTiles>
LUKV_DEVICE void AttentionRaise(const float (&highest)[kRowTiles][2], float scale,
                                AttentionSums<kRowTiles, kDimTiles>& sums) {
  float factor[kRowTiles][2];
  bool changed = false;
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float next = fmaxf(sums.max[t][half], highest[t][half] * scale);
      factor[t][half] = FastExp2(sums.max[t][half] - AttentionBase(next));
      sums.max[t][half] = next;
      changed |= factor[t][half] != 1.0f;
    }
  }
  // After the first tiles a maximum seldom changes, and multiplying by 1 does nothing.
  if (!__any_sync(kFullWarp, changed)) return;
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums.sum[t][i] *= factor[t][i / 2];
#pragma unroll
      for (int n = 0; n < kDims; ++n) sums.acc[t][n][i] *= factor[t][i / 2];
    }
  }
}

// The weights of two neighbouring columns of a row.
LUKV_DEVICE uint32_t AttentionWeightPair(float first, float second, float scale, float max) {
  const float base = AttentionBase(max);
  return PackBf16(FastExp2(fmaf(first, scale, -base)), FastExp2(fmaf(second, scale, -base)));
}

// Scores to weights, which then are the first operand of the product with V: fragment k has the keys
// [16 k, 16 k + 16).
template <int kRowTiles, int kKeyTiles>
LUKV_DEVICE void AttentionWeights(const float (&s)[kRowTiles][kKeyTiles][4], float scale,
                                  const float (&max)[kRowTiles][2], uint32_t (&weights)[kRowTiles][kKeyTiles / 2][4]) {
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        weights[t][n / 2][n % 2 * 2 + half] =
            AttentionWeightPair(s[t][n][2 * half], s[t][n][2 * half + 1], scale, max[t][half]);
      }
    }
  }
}

// Adds weights * V for kDims times 8 dimensions, the first of which is at `values`, and the weights.
template <int kHeadDim, int kDims, int kRowTiles, int kDimTiles, int kKeySteps>
LUKV_DEVICE void AttentionValues(const __nv_bfloat16* values, const uint32_t (&weights)[kRowTiles][kKeySteps][4],
                                 AttentionSums<kRowTiles, kDimTiles>& sums) {
  constexpr uint32_t kOnes[2] = {0x3f803f80u, 0x3f803f80u};
  const __nv_bfloat16* const lane_values = values + Lane() % 16 * kAttentionStride<kHeadDim> + Lane() / 16 * 8;
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int k = 0; k < kKeySteps; ++k) MultiplyAdd(sums.sum[t], weights[t][k], kOnes);
  }
#pragma unroll
  for (int n = 0; n < kDims; n += 2) {
#pragma unroll
    for (int k = 0; k < kKeySteps; ++k) {
      uint32_t b[4];
      LoadMatricesTransposed(b, lane_values + k * 16 * kAttentionStride<kHeadDim> + n * 8);
      const uint32_t first[2] = {b[0], b[1]};
      const uint32_t second[2] = {b[2], b[3]};
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        MultiplyAdd(sums.acc[t][n], weights[t][k], first);
        MultiplyAdd(sums.acc[t][n + 1], weights[t][k], second);
      }
    }
  }
}

}  // namespace lukv::cuda
