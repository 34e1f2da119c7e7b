// Tiles of keys and their softmax for the scorers, see score_tiles.h. Included once per instruction set (Highway's
// foreach_target).
#if defined(LUKV_KERNELS_CPU_SCORE_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LUKV_KERNELS_CPU_SCORE_TILES_INL_H_
#undef LUKV_KERNELS_CPU_SCORE_TILES_INL_H_
#else
#define LUKV_KERNELS_CPU_SCORE_TILES_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/score_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

template <class T>
HWY_INLINE void LoadKeysOf(const KvSource& source, int32_t begin, int32_t end, float* keys) {
  size_t rows[kTileEntries];
  const int32_t n = std::min(kTileEntries, end - begin);
  LocateRows(source, begin, n, rows);
  const T* k = static_cast<const T*>(source.k);
  // Of the next tile, while this one is brought into shape.
  Prefetch prefetch;
  const int32_t next = begin + kTileEntries;
  const int32_t n_next = std::min(kTileEntries, end - next);
  if (n_next > 0 && IsContiguous(source, next, n_next)) {
    const size_t row_bytes = static_cast<size_t>(source.head_dim) * sizeof(T);
    prefetch = Prefetch({k + LocateRow(source, next), static_cast<size_t>(n_next) * row_bytes}, {},
                        kTileEntries / kLanes * std::max<size_t>(1, row_bytes / 16));
  }
  TransposeKeys<FloatProducts>(k, rows, n, source.head_dim, prefetch, keys);
}

// keys[d][i] = element d of the key of entry begin + i, up to kTileEntries of them before `end`. What lies behind is
// any number.
HWY_INLINE void LoadKeys(const KvSource& source, int32_t begin, int32_t end, float* keys) {
  if (source.dtype == DType::kF32) return LoadKeysOf<float>(source, begin, end, keys);
  LoadKeysOf<uint16_t>(source, begin, end, keys);
}

// logits[r][i] = q[r] . keys[:][i] for any number of rows of q, q_stride apart.
HWY_INLINE void MultiplyRows(const float* q, size_t q_stride, int32_t rows, const float* keys, int32_t head_dim,
                             float* logits) {
  constexpr int32_t kVectors = kTileEntries / static_cast<int32_t>(kLanes);
  const auto rows_of = [&](auto n) HWY_ATTR {
    MultiplyPanel<FloatProducts, decltype(n)::value, Start::kZero>(q, q_stride, keys, kTileEntries, head_dim, nullptr,
                                                                   logits, kTileEntries, kVectors);
  };
  for (; rows >= 6; rows -= 6, q += 6 * q_stride, logits += 6 * kTileEntries) rows_of(std::integral_constant<int, 6>());
  switch (rows) {
    case 1:
      return rows_of(std::integral_constant<int, 1>());
    case 2:
      return rows_of(std::integral_constant<int, 2>());
    case 3:
      return rows_of(std::integral_constant<int, 3>());
    case 4:
      return rows_of(std::integral_constant<int, 4>());
    case 5:
      return rows_of(std::integral_constant<int, 5>());
    default:
      return;
  }
}

// The first n of a tile's logits (to the base 2) become weights 2^(logit - max), the rest zeros.
HWY_INLINE void WeighTile(int32_t n, float* HWY_RESTRICT logits, float* max, float* sum) {
  constexpr int32_t kVectors = kTileEntries / static_cast<int32_t>(kLanes);
  const FloatTag d;
  const FloatVec hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  FloatVec highest = hn::Set(d, std::numeric_limits<float>::lowest());
  FloatVec x[kVectors];
  LUKV_UNROLL
  for (int32_t v = 0; v < kVectors; ++v) {
    const int32_t seen = std::clamp(n - v * static_cast<int32_t>(kLanes), 0, static_cast<int32_t>(kLanes));
    x[v] = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(seen)),
                          hn::Load(d, logits + v * static_cast<int32_t>(kLanes)), hidden);
    highest = hn::Max(x[v], highest);
  }
  highest = hn::MaxOfLanes(d, highest);
  FloatVec total = hn::Zero(d);
  LUKV_UNROLL
  for (int32_t v = 0; v < kVectors; ++v) {
    const FloatVec weight = Exp2(d, hn::Sub(x[v], highest));
    hn::Store(weight, d, logits + v * static_cast<int32_t>(kLanes));
    total = hn::Add(total, weight);
  }
  *max = hn::GetLane(highest);
  *sum = hn::GetLane(hn::SumOfLanes(d, total));
}

// What each row's weights in each tile have to be multiplied by, so that they add up to 1 over the tiles.
HWY_INLINE void FinishRows(const TileSoftmax& softmax) {
  const FloatTag d;
  const size_t tiles = static_cast<size_t>(softmax.tiles);
  for (size_t r = 0; r < softmax.stride; r += kLanes) {
    FloatVec highest = hn::Set(d, std::numeric_limits<float>::lowest());
    for (size_t t = 0; t < tiles; ++t) highest = hn::Max(hn::Load(d, softmax.max + t * softmax.stride + r), highest);
    FloatVec total = hn::Zero(d);
    for (size_t t = 0; t < tiles; ++t) {
      const size_t at = t * softmax.stride + r;
      const FloatVec factor = Exp2(d, hn::Sub(hn::Load(d, softmax.max + at), highest));
      total = hn::MulAdd(hn::Load(d, softmax.sum + at), factor, total);
      hn::Store(factor, d, softmax.sum + at);
    }
    for (size_t t = 0; t < tiles; ++t) {
      float* factor = softmax.sum + t * softmax.stride + r;
      hn::Store(hn::Div(hn::Load(d, factor), total), d, factor);
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
