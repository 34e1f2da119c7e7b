// Bodies of the algorithm in attention.h. Included once per instruction set (Highway's foreach_target).
#if defined(LUKV_KERNELS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LUKV_KERNELS_CPU_ATTENTION_INL_H_
#undef LUKV_KERNELS_CPU_ATTENTION_INL_H_
#else
#define LUKV_KERNELS_CPU_ATTENTION_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/vector_math-inl.h"

// Loops over registers must vanish; neither compiler's own heuristics are sure to.
#if defined(__clang__)
#define LUKV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LUKV_UNROLL _Pragma("GCC unroll 8")
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// Width of a register tile in vectors: 6 x 4 accumulators, 4 loads and a broadcast fit 32 registers, 6 x 2 fit 16.
inline constexpr int kVectorsAtOnce = kLanes == 16 ? 4 : 2;
inline constexpr float kNothingSeen = std::numeric_limits<float>::lowest();

// ---- C = A B, on registers -------------------------------------------------------------------------------------

// What a register tile starts from.
enum class Start { kZero, kScaled };

// c[r][:] = (start == kScaled ? c[r][:] * factor[r] : 0) + sum over i < k of a[r][i] * b[i][:], for kRows rows and
// kVectors vectors. Every element is one chain of fused additions in ascending i, whatever the tile's shape.
template <int kRows, int kVectors, Start kStart, class B>
HWY_INLINE void MultiplyTile(const float* HWY_RESTRICT a, size_t a_stride, const B* HWY_RESTRICT b, size_t b_stride,
                             int32_t k, const float* HWY_RESTRICT factor, float* HWY_RESTRICT c, size_t c_stride) {
  const FloatTag d;
  FloatVec sums[kRows][kVectors];
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kStart == Start::kZero) {
        sums[r][v] = hn::Zero(d);
      } else {
        sums[r][v] = hn::Mul(hn::LoadU(d, c + r * c_stride + v * kLanes), hn::Set(d, factor[r]));
      }
    }
  }
  for (int32_t i = 0; i < k; ++i, b += b_stride) {
    FloatVec column[kVectors];
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) column[v] = LoadFloat(d, b + v * kLanes);
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const FloatVec row = hn::Set(d, a[r * a_stride + static_cast<size_t>(i)]);
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(row, column[v], sums[r][v]);
    }
  }
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, c + r * c_stride + v * kLanes);
  }
}

// The same for any number of vectors.
template <int kRows, Start kStart, class B>
HWY_INLINE void MultiplyPanel(const float* HWY_RESTRICT a, size_t a_stride, const B* HWY_RESTRICT b, size_t b_stride,
                              int32_t k, const float* HWY_RESTRICT factor, float* HWY_RESTRICT c, size_t c_stride,
                              int32_t vectors) {
  for (; vectors >= kVectorsAtOnce; vectors -= kVectorsAtOnce) {
    MultiplyTile<kRows, kVectorsAtOnce, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
    b += kVectorsAtOnce * kLanes;
    c += kVectorsAtOnce * kLanes;
  }
  if (vectors == 1) MultiplyTile<kRows, 1, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
  if constexpr (kVectorsAtOnce == 4) {
    if (vectors == 2) MultiplyTile<kRows, 2, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
    if (vectors == 3) MultiplyTile<kRows, 3, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
  }
}

// ---- Tiles -----------------------------------------------------------------------------------------------------

// Fills rows[i] with the element offset of entry begin + i, i < n. Returns whether the rows follow each other.
inline bool LocateRows(const KvSource& source, int32_t begin, int32_t n, size_t* rows) {
  int32_t page = begin / source.page_entries;
  int32_t in_page = begin % source.page_entries;
  const bool contiguous = in_page + n <= source.page_entries;
  for (int32_t i = 0; i < n; ++page, in_page = 0) {
    const size_t page_begin = source.pages == nullptr ? 0 : source.pages[page] * source.page_stride;
    for (; in_page < source.page_entries && i < n; ++in_page, ++i) {
      rows[i] = page_begin + static_cast<size_t>(in_page) * static_cast<size_t>(source.head_dim);
    }
  }
  return contiguous;
}

// 4 x 4 32-bit elements transposed inside each 128-bit block of four vectors.
template <class D, class V>
HWY_INLINE void TransposeBlocks(D d, V (&x)[4]) {
  const hn::Repartition<uint64_t, D> dw;
  const V a = hn::InterleaveLower(d, x[0], x[1]);
  const V b = hn::InterleaveUpper(d, x[0], x[1]);
  const V c = hn::InterleaveLower(d, x[2], x[3]);
  const V e = hn::InterleaveUpper(d, x[2], x[3]);
  x[0] = hn::BitCast(d, hn::InterleaveLower(dw, hn::BitCast(dw, a), hn::BitCast(dw, c)));
  x[1] = hn::BitCast(d, hn::InterleaveUpper(dw, hn::BitCast(dw, a), hn::BitCast(dw, c)));
  x[2] = hn::BitCast(d, hn::InterleaveLower(dw, hn::BitCast(dw, b), hn::BitCast(dw, e)));
  x[3] = hn::BitCast(d, hn::InterleaveUpper(dw, hn::BitCast(dw, b), hn::BitCast(dw, e)));
}

// Vector whose 128-bit block i comes from rows[4 * i] + offset: 4 words of each of kLanes / 4 rows, 4 rows apart.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D du, const uint32_t* const* rows, size_t offset) {
  const hn::FixedTag<uint32_t, 4> d4;
  const hn::Half<D> dh;
  const auto pair = hn::Combine(dh, hn::LoadU(d4, rows[4] + offset), hn::LoadU(d4, rows[0] + offset));
  return hn::Combine(du, hn::Combine(dh, hn::LoadU(d4, rows[12] + offset), hn::LoadU(d4, rows[8] + offset)), pair);
}
template <>
HWY_INLINE hn::Vec<hn::FixedTag<uint32_t, 8>> LoadBlocks(hn::FixedTag<uint32_t, 8> du, const uint32_t* const* rows,
                                                         size_t offset) {
  const hn::FixedTag<uint32_t, 4> d4;
  return hn::Combine(du, hn::LoadU(d4, rows[4] + offset), hn::LoadU(d4, rows[0] + offset));
}

// keys[d][i] = element d of K row i as f32, i < n; the rest of the tile is left alone or repeats row n - 1.
template <class T>
HWY_INLINE void TransposeKeys(const T* k, const size_t* rows, int32_t n, int32_t head_dim, float* HWY_RESTRICT keys) {
  constexpr int32_t kPerWord = sizeof(uint32_t) / sizeof(T);
  if (head_dim % (4 * kPerWord) != 0) {
    for (int32_t i = 0; i < n; ++i) {
      for (int32_t x = 0; x < head_dim; ++x) keys[x * kTileEntries + i] = ToFloat(k[rows[i] + static_cast<size_t>(x)]);
    }
    return;
  }
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const int32_t words = head_dim / kPerWord;
  for (int32_t first = 0; first < n; first += static_cast<int32_t>(kLanes)) {
    const uint32_t* row[kLanes];
    for (int32_t i = 0; i < static_cast<int32_t>(kLanes); ++i) {
      row[i] = reinterpret_cast<const uint32_t*>(k + rows[std::min(first + i, n - 1)]);
    }
    float* to = keys + first;
    for (int32_t w = 0; w < words; w += 4) {
      hn::Vec<decltype(du)> x[4];
      LUKV_UNROLL
      for (int j = 0; j < 4; ++j) x[j] = LoadBlocks(du, row + j, static_cast<size_t>(w));
      TransposeBlocks(du, x);
      LUKV_UNROLL
      for (int j = 0; j < 4; ++j) {
        if constexpr (kPerWord == 1) {
          hn::Store(hn::BitCast(d, x[j]), d, to);
          to += kTileEntries;
        } else {  // A word is two bf16, the lower dimension in the lower half.
          hn::Store(hn::BitCast(d, hn::ShiftLeft<16>(x[j])), d, to);
          hn::Store(hn::BitCast(d, hn::And(x[j], hn::Set(du, 0xffff0000u))), d, to + kTileEntries);
          to += 2 * kTileEntries;
        }
      }
    }
  }
}

// values[i][:] = V row i as f32, zeros up to PaddedDim.
template <class T>
HWY_INLINE void ConvertValues(const T* v, const size_t* rows, int32_t n, int32_t head_dim, float* HWY_RESTRICT values) {
  const FloatTag d;
  const int32_t whole = head_dim / static_cast<int32_t>(kLanes) * static_cast<int32_t>(kLanes);
  const int32_t padded = static_cast<int32_t>(PaddedDim(head_dim));
  for (int32_t i = 0; i < n; ++i, values += padded) {
    const T* row = v + rows[i];
    int32_t x = 0;
    for (; x < whole; x += static_cast<int32_t>(kLanes)) hn::Store(LoadFloat(d, row + x), d, values + x);
    for (; x < head_dim; ++x) values[x] = ToFloat(row[x]);
    for (; x < padded; ++x) values[x] = 0;
  }
}

// ---- Softmax ---------------------------------------------------------------------------------------------------

// Turns kRows rows of scores into weights 2^(score - max) and brings max and sum up to date; factor[r] is what the
// row's earlier sums have to be multiplied by. Row r sees the first visible[r] of the tile's entries.
template <int kRows>
HWY_INLINE void Weigh(const int32_t* visible, int32_t vectors, float* HWY_RESTRICT scores, float* HWY_RESTRICT max,
                      float* HWY_RESTRICT sum, float* HWY_RESTRICT factor) {
  const FloatTag d;
  HWY_ALIGN float new_max[kMaxLanes];
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float* row = scores + r * kTileEntries;
    FloatVec highest = hn::Set(d, max[r]);
    for (int32_t v = 0; v < vectors; ++v, row += kLanes) {
      FloatVec score = hn::Load(d, row);
      const int32_t seen = visible[r] - v * static_cast<int32_t>(kLanes);
      if (seen < static_cast<int32_t>(kLanes)) {
        const auto mask = hn::FirstN(d, static_cast<size_t>(std::max(seen, 0)));
        score = hn::IfThenElse(mask, score, hn::Set(d, -std::numeric_limits<float>::infinity()));
        hn::Store(score, d, row);
      }
      highest = hn::Max(highest, score);
    }
    new_max[r] = hn::GetLane(hn::MaxOfLanes(d, highest));
  }
  // All rows at once: the arrays are padded to whole vectors.
  hn::StoreU(Exp2(d, hn::Sub(hn::LoadU(d, max), hn::Load(d, new_max))), d, factor);
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float* row = scores + r * kTileEntries;
    const FloatVec highest = hn::Set(d, new_max[r]);
    FloatVec total = hn::Mul(hn::Load(d, sum + r * kMaxLanes), hn::Set(d, factor[r]));
    for (int32_t v = 0; v < vectors; ++v, row += kLanes) {
      const FloatVec weight = Exp2(d, hn::Sub(hn::Load(d, row), highest));
      hn::Store(weight, d, row);
      total = hn::Add(total, weight);
    }
    hn::Store(total, d, sum + r * kMaxLanes);
    max[r] = new_max[r];
  }
}

// kRows rows of a block against one tile: entries [tile, tile + kTileEntries).
template <int kRows, class V>
HWY_NOINLINE void AttendTile(const RowBlock& block, int32_t row, int32_t tile, const float* keys, const V* values,
                             size_t value_stride, const SoftmaxState& state, float* scores) {
  const size_t stride = PaddedDim(block.head_dim);
  const float* q = block.q + static_cast<size_t>(row) * stride;
  float* acc = state.acc + static_cast<size_t>(row) * stride;
  int32_t visible[kRows];
  for (int32_t r = 0; r < kRows; ++r) {
    visible[r] = std::clamp(block.first_visible + (row + r) / block.group - tile, 0, kTileEntries);
  }
  // Later rows see more. Entries that none of the rows sees are not touched: they may not have been written.
  const int32_t seen = visible[kRows - 1];
  const int32_t vectors = (seen + static_cast<int32_t>(kLanes) - 1) / static_cast<int32_t>(kLanes);
  MultiplyPanel<kRows, Start::kZero>(q, stride, keys, kTileEntries, block.head_dim, nullptr, scores, kTileEntries,
                                     vectors);
  HWY_ALIGN float factor[kMaxLanes];
  Weigh<kRows>(visible, vectors, scores, state.max + row, state.sum + static_cast<size_t>(row) * kMaxLanes, factor);
  const int32_t dims = static_cast<int32_t>((static_cast<size_t>(block.head_dim) + kLanes - 1) / kLanes);
  MultiplyPanel<kRows, Start::kScaled>(scores, kTileEntries, values, value_stride, seen, factor, acc, stride, dims);
}

template <class V>
void AttendRows(const RowBlock& block, int32_t row, int32_t tile, const float* keys, const V* values,
                size_t value_stride, const SoftmaxState& state, float* scores) {
  static_assert(kRowsAtOnce == 6);
  for (; row + 6 <= block.rows; row += 6) {
    AttendTile<6>(block, row, tile, keys, values, value_stride, state, scores);
  }
  switch (block.rows - row) {
    case 1:
      return AttendTile<1>(block, row, tile, keys, values, value_stride, state, scores);
    case 2:
      return AttendTile<2>(block, row, tile, keys, values, value_stride, state, scores);
    case 3:
      return AttendTile<3>(block, row, tile, keys, values, value_stride, state, scores);
    case 4:
      return AttendTile<4>(block, row, tile, keys, values, value_stride, state, scores);
    case 5:
      return AttendTile<5>(block, row, tile, keys, values, value_stride, state, scores);
    default:
      return;
  }
}

// ---- Splits ----------------------------------------------------------------------------------------------------

inline void ResetState(const RowBlock& block, const SoftmaxState& state) {
  std::fill_n(state.acc, static_cast<size_t>(block.rows) * PaddedDim(block.head_dim), 0.0f);
  std::fill_n(state.max, block.rows, kNothingSeen);
  std::fill_n(state.sum, static_cast<size_t>(block.rows) * kMaxLanes, 0.0f);
}

template <class T>
void AttendSplitOf(const KvSource& source, const RowBlock& block, int32_t begin, const SoftmaxState& state,
                   const TileScratch& scratch) {
  const T* k = static_cast<const T*>(source.k);
  const T* v = static_cast<const T*>(source.v);
  const int32_t last_visible = block.first_visible + (block.rows - 1) / block.group;
  const int32_t end = std::min(begin + kSplitEntries, last_visible);
  ResetState(block, state);
  for (int32_t tile = begin; tile < end; tile += kTileEntries) {
    const int32_t n = std::min(kTileEntries, end - tile);
    size_t rows[kTileEntries];
    const bool contiguous = LocateRows(source, tile, n, rows);
    // Earlier tokens see nothing of this tile.
    const int32_t row = std::max(0, tile + 1 - block.first_visible) * block.group;
    TransposeKeys(k, rows, n, block.head_dim, scratch.keys);
    // V is read where it lies if its rows are whole vectors and converting it again for each six rows costs less than
    // converting it once.
    const bool in_place = contiguous && block.head_dim % static_cast<int32_t>(kLanes) == 0 &&
                          (sizeof(T) == sizeof(float) || block.rows - row <= kRowsAtOnce);
    if (in_place) {
      AttendRows(block, row, tile, scratch.keys, v + rows[0], static_cast<size_t>(block.head_dim), state,
                 scratch.scores);
    } else {
      ConvertValues(v, rows, n, block.head_dim, scratch.values);
      AttendRows(block, row, tile, scratch.keys, scratch.values, PaddedDim(block.head_dim), state, scratch.scores);
    }
  }
}

// state = softmax of the block's rows over the entries of the split that begins at entry `begin`.
// REQUIRES: the block's last row sees `begin`.
inline void AttendSplit(const KvSource& source, const RowBlock& block, int32_t begin, const SoftmaxState& state,
                        const TileScratch& scratch) {
  if (source.dtype == DType::kF32) {
    AttendSplitOf<float>(source, block, begin, state, scratch);
  } else {
    AttendSplitOf<uint16_t>(source, block, begin, state, scratch);
  }
}

// into = softmax over the entries of both. Rows that saw nothing in one of them are left as they are in the other.
inline void MergeState(const RowBlock& block, const SoftmaxState& from, const SoftmaxState& into) {
  const FloatTag d;
  const size_t stride = PaddedDim(block.head_dim);
  for (size_t r = 0; r < static_cast<size_t>(block.rows); ++r) {
    const float max = std::max(from.max[r], into.max[r]);
    const FloatVec vmax = hn::Set(d, max);
    const FloatVec a = Exp2(d, hn::Sub(hn::Set(d, into.max[r]), vmax));
    const FloatVec b = Exp2(d, hn::Sub(hn::Set(d, from.max[r]), vmax));
    into.max[r] = max;
    const auto mix = [&](const float* x, float* y)
                         HWY_ATTR { hn::Store(hn::MulAdd(hn::Load(d, x), b, hn::Mul(hn::Load(d, y), a)), d, y); };
    mix(from.sum + r * kMaxLanes, into.sum + r * kMaxLanes);
    for (size_t x = r * stride; x < (r + 1) * stride; x += kLanes) mix(from.acc + x, into.acc + x);
  }
}

// Rows [token * group + g] of q, scaled, from the activations' [tokens, n_heads * head_dim].
inline void LoadQueries(const ConstMatrix& q, int64_t first_row, int32_t first_head, float scale,
                        const RowBlock& block) {
  constexpr float kLog2E = 1.44269504088896341f;
  const size_t n = static_cast<size_t>(block.head_dim);
  const size_t stride = PaddedDim(block.head_dim);
  const float factor = scale * kLog2E;
  for (int32_t r = 0; r < block.rows; ++r) {
    const float* from =
        q.row<float>(first_row + r / block.group) + static_cast<size_t>(first_head + r % block.group) * n;
    float* to = block.q + static_cast<size_t>(r) * stride;
    for (size_t i = 0; i < n; ++i) to[i] = from[i] * factor;
  }
}

// The block's results to their places in the activations. Uses up the state.
inline void StoreOutputs(const RowBlock& block, const SoftmaxState& state, int64_t first_row, int32_t first_head,
                         const Matrix& out) {
  const FloatTag d;
  const size_t n = static_cast<size_t>(block.head_dim);
  const size_t stride = PaddedDim(block.head_dim);
  for (int32_t r = 0; r < block.rows; ++r) {
    float* acc = state.acc + static_cast<size_t>(r) * stride;
    FloatVec lanes = hn::Load(d, state.sum + static_cast<size_t>(r) * kMaxLanes);
    const FloatVec sum = hn::SumOfLanes(d, lanes);
    for (size_t i = 0; i < stride; i += kLanes) hn::Store(hn::Div(hn::Load(d, acc + i), sum), d, acc + i);
    float* to = out.row<float>(first_row + r / block.group) + static_cast<size_t>(first_head + r % block.group) * n;
    std::memcpy(to, acc, n * sizeof(float));
  }
}

// Where a block's rows stand in the activations.
struct BlockPlace {
  int64_t row = 0;         // Of its first token.
  int32_t first_head = 0;  // Query head of the group's first.
};

// The whole of a row block on one thread.
inline void AttendBlock(const ConstMatrix& q, float scale, const KvSource& source, RowBlock block,
                        const BlockPlace& place, const BlockScratch& scratch, const Matrix& out) {
  block.q = scratch.q;
  LoadQueries(q, place.row, place.first_head, scale, block);
  ResetState(block, scratch.total);
  const int32_t end = block.first_visible + (block.rows - 1) / block.group;
  for (int32_t begin = 0; begin < end; begin += kSplitEntries) {
    AttendSplit(source, block, begin, scratch.split, scratch.tile);
    MergeState(block, scratch.split, scratch.total);
  }
  StoreOutputs(block, scratch.total, place.row, place.first_head, out);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
