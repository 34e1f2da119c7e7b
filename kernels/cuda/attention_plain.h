// Attention in f32 without tensor cores, for f32 entries and for head dimensions that have no kernel of their own:
// right for every even head_dim up to 256. A block has 16 query rows, four per warp, and takes entries in tiles of 32.
#pragma once

#include "kernels/cuda/attention_tiles.h"

namespace lukv::cuda {

inline constexpr int kPlainThreads = 128;
inline constexpr int kPlainWarps = kPlainThreads / kWarp;
inline constexpr int kPlainRows = 16;
inline constexpr int kPlainWarpRows = kPlainRows / kPlainWarps;
inline constexpr int kPlainKeys = kWarp;  // A lane takes one key.
inline constexpr int kPlainMaxHeadDim = 256;
inline constexpr int kPlainPairs = kPlainMaxHeadDim / 2 / kWarp;  // Of dimensions, that a lane has at most.

// Elements from one row of K to the next in shared memory: an odd number of pairs, so that lanes that read pairs of
// different rows read different banks.
__host__ __device__ constexpr int PlainKeyStride(int head_dim) { return head_dim | 2; }

constexpr size_t PlainSharedBytes(int head_dim) {
  return (static_cast<size_t>(kPlainRows + kPlainKeys) * static_cast<size_t>(head_dim) +
          static_cast<size_t>(kPlainKeys * PlainKeyStride(head_dim)) +
          kPlainWarps * (kPlainKeys + 1) * kPlainWarpRows) *
         sizeof(float);
}

// A block's shared memory. What a warp reads of its four rows it reads at once.
struct PlainShared {
  float4* q;        // [warps, head_dim], of a warp's rows
  float4* weights;  // [warps, keys], likewise: scores first, then weights
  float4* factor;   // [warps]
  float* v;         // [keys, head_dim]
  float* k;         // [keys, PlainKeyStride]

  LUKV_DEVICE PlainShared(float* memory, int head_dim)
      : q(reinterpret_cast<float4*>(memory)),
        weights(q + kPlainWarps * head_dim),
        factor(weights + kPlainWarps * kPlainKeys),
        v(reinterpret_cast<float*>(factor + kPlainWarps)),
        k(v + kPlainKeys * head_dim) {}

  LUKV_DEVICE float* RowOf(float4* four, int row) const { return reinterpret_cast<float*>(four) + row; }
};

// The running sums of a warp's four rows.
struct PlainSums {
  float2 acc[kPlainWarpRows][kPlainPairs];  // Of dimensions 2 lane + 64 i and the next
  float max;                                // Of row lane / 8: greatest scaled score
  float sum;                                // Of row lane / 8

  LUKV_DEVICE void Reset() {
#pragma unroll
    for (int r = 0; r < kPlainWarpRows; ++r) {
#pragma unroll
      for (int i = 0; i < kPlainPairs; ++i) acc[r][i] = {0, 0};
    }
    max = kAttentionHidden;
    sum = 0;
  }
};

LUKV_DEVICE float2* PlainPair(float* memory) { return reinterpret_cast<float2*>(memory); }
LUKV_DEVICE const float2* PlainPair(const float* memory) { return reinterpret_cast<const float2*>(memory); }
template <typename T>
LUKV_DEVICE float2 PlainLoadPair(const T* from) {
  return {ToFloat(from[0]), ToFloat(from[1])};
}

// Four rows at once.
LUKV_DEVICE void PlainAdd(const float4& rows, float value, float4& sums) {
  sums.x = fmaf(rows.x, value, sums.x);
  sums.y = fmaf(rows.y, value, sums.y);
  sums.z = fmaf(rows.z, value, sums.z);
  sums.w = fmaf(rows.w, value, sums.w);
}
LUKV_DEVICE void PlainAdd(float row, const float2& values, float2& sums) {
  sums.x = fmaf(row, values.x, sums.x);
  sums.y = fmaf(row, values.y, sums.y);
}
LUKV_DEVICE void PlainScale(float factor, float2& sums) {
  sums.x *= factor;
  sums.y *= factor;
}

// Copies the entries [begin, begin + 32) to shared memory; those from `end` on become 0. locate(entry, &k, &v) gives
// the rows of an entry. To be followed by a barrier.
template <typename T, typename Locate>
LUKV_DEVICE void PlainLoadTile(int begin, int end, int head_dim, const Locate& locate, const PlainShared& shared) {
  for (int row = Warp(); row < kPlainKeys; row += kPlainWarps) {
    const T* k = nullptr;
    const T* v = nullptr;
    const bool there = begin + row < end;
    if (there) locate(begin + row, &k, &v);
    for (int d = 2 * Lane(); d < head_dim; d += 2 * kWarp) {
      *PlainPair(shared.k + row * PlainKeyStride(head_dim) + d) = there ? PlainLoadPair(k + d) : float2{0, 0};
      *PlainPair(shared.v + row * head_dim + d) = there ? PlainLoadPair(v + d) : float2{0, 0};
    }
  }
}

// Scores of the tile in shared memory to weights, in shared memory for the whole warp; brings max and sum up to date.
// visible: entries that row lane / 8 sees.
LUKV_DEVICE void PlainWeights(int begin, int visible, int head_dim, float scale, const PlainShared& shared,
                              PlainSums& sums) {
  float4* const weights = shared.weights + Warp() * kPlainKeys;
  const float4* const q = shared.q + Warp() * head_dim;
  const float* const k = shared.k + Lane() * PlainKeyStride(head_dim);
  float4 score = {0, 0, 0, 0};
  for (int d = 0; d < head_dim; d += 2) {
    const float2 key = *PlainPair(k + d);
    PlainAdd(q[d], key.x, score);
    PlainAdd(q[d + 1], key.y, score);
  }
  weights[Lane()] = score;
  __syncwarp();
  // From here on eight lanes have a row, each with four keys.
  constexpr int kLanes = kWarp / kPlainWarpRows;
  const int row = Lane() / kLanes;
  float x[kPlainKeys / kLanes];
  float highest = kAttentionHidden;
#pragma unroll
  for (int i = 0; i < kPlainKeys / kLanes; ++i) {
    const int key = Lane() % kLanes + i * kLanes;
    x[i] = begin + key < visible ? *shared.RowOf(weights + key, row) : kAttentionHidden;
    highest = fmaxf(highest, x[i]);
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    highest = fmaxf(highest, __shfl_xor_sync(kFullWarp, highest, offset));
  }
  const float next = fmaxf(sums.max, highest * scale);
  const float base = AttentionBase(next);
  const float factor = exp2f(sums.max - base);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPlainKeys / kLanes; ++i) {
    const float weight = exp2f(fmaf(x[i], scale, -base));
    *shared.RowOf(weights + Lane() % kLanes + i * kLanes, row) = weight;
    sum += weight;
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
  if (Lane() % kLanes == 0) *shared.RowOf(shared.factor + Warp(), row) = factor;
  sums.max = next;
  sums.sum = fmaf(sums.sum, factor, sum);
  __syncwarp();
}

// Adds the tile's weights * V.
LUKV_DEVICE void PlainValues(int head_dim, const PlainShared& shared, PlainSums& sums) {
  const float4 factor = shared.factor[Warp()];
#pragma unroll
  for (int i = 0; i < kPlainPairs; ++i) {
    PlainScale(factor.x, sums.acc[0][i]);
    PlainScale(factor.y, sums.acc[1][i]);
    PlainScale(factor.z, sums.acc[2][i]);
    PlainScale(factor.w, sums.acc[3][i]);
  }
#pragma unroll 2
  for (int key = 0; key < kPlainKeys; ++key) {
    const float4 weight = shared.weights[Warp() * kPlainKeys + key];
    const float* const v = shared.v + key * head_dim;
#pragma unroll
    for (int i = 0; i < kPlainPairs; ++i) {
      const int d = 2 * (Lane() + i * kWarp);
      if (d >= head_dim) break;
      const float2 value = *PlainPair(v + d);
      PlainAdd(weight.x, value, sums.acc[0][i]);
      PlainAdd(weight.y, value, sums.acc[1][i]);
      PlainAdd(weight.z, value, sums.acc[2][i]);
      PlainAdd(weight.w, value, sums.acc[3][i]);
    }
  }
}

// The block's rows over the entries [begin, end), of which row lane / 8 of the warp sees those before `visible`.
// REQUIRES: the queries lie in shared memory, or will after the next barrier. Ends without a barrier.
template <typename T, typename Locate>
LUKV_DEVICE void PlainAttend(int begin, int end, int visible, int head_dim, float scale, const Locate& locate,
                             const PlainShared& shared, PlainSums& sums) {
  for (; begin < end; begin += kPlainKeys) {
    PlainLoadTile<T>(begin, end, head_dim, locate, shared);
    __syncthreads();
    PlainWeights(begin, visible, head_dim, scale, shared, sums);
    PlainValues(head_dim, shared, sums);
    __syncthreads();
  }
}

}  // namespace lukv::cuda
