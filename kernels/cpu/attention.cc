#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

inline constexpr float kNothingSeen = std::numeric_limits<float>::lowest();

// ---- Softmax ---------------------------------------------------------------------------------------------------

// Turns kRows rows of scores q k^T into weights 2^(scale * score - max) and brings max and sum up to date; factor[r] is
// what the row's earlier sums have to be multiplied by. Row r sees the first visible[r] of the tile's entries.
template <int kRows>
HWY_INLINE void Weigh(const int32_t* visible, int32_t vectors, float scale, float* HWY_RESTRICT scores,
                      float* HWY_RESTRICT max, float* HWY_RESTRICT sum, float* HWY_RESTRICT factor) {
  const FloatTag d;
  const FloatVec hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  HWY_ALIGN float new_max[kMaxLanes];
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float* row = scores + r * kTileEntries;
    FloatVec highest = hidden;
    for (int32_t v = 0; v < vectors; ++v, row += kLanes) {
      FloatVec score = hn::Load(d, row);
      const int32_t seen = visible[r] - v * static_cast<int32_t>(kLanes);
      if (seen < static_cast<int32_t>(kLanes)) {
        score = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(std::max(seen, 0))), score, hidden);
        hn::Store(score, d, row);
      }
      highest = hn::Max(highest, score);
    }
    new_max[r] = std::max(max[r], hn::GetLane(hn::MaxOfLanes(d, highest)) * scale);
  }
  // All rows at once: the arrays are padded to whole vectors.
  hn::StoreU(Exp2(d, hn::Sub(hn::LoadU(d, max), hn::Load(d, new_max))), d, factor);
  const FloatVec scales = hn::Set(d, scale);
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    float* row = scores + r * kTileEntries;
    const FloatVec highest = hn::Set(d, new_max[r]);
    FloatVec total = hn::Mul(hn::Load(d, sum + r * kMaxLanes), hn::Set(d, factor[r]));
    for (int32_t v = 0; v < vectors; ++v, row += kLanes) {
      const FloatVec weight = Exp2(d, hn::MulSub(hn::Load(d, row), scales, highest));
      hn::Store(weight, d, row);
      total = hn::Add(total, weight);
    }
    hn::Store(total, d, sum + r * kMaxLanes);
    max[r] = new_max[r];
  }
}

// One tile in shape: entries [begin, begin + kTileEntries) of a head.
template <class Word, class V>
struct Tile {
  int32_t begin = 0;
  const Word* keys = nullptr;  // [head_dim / kPerWord, kTileEntries]
  const V* values = nullptr;   // [kTileEntries / kPerWord], value_stride apart
  size_t value_stride = 0;
};

// kRows rows of a block, from `row` on, against one tile.
template <class Products, int kRows, class V>
HWY_NOINLINE void AttendTile(const RowBlock& block, int32_t row, const Tile<typename Products::Word, V>& tile,
                             const SoftmaxState& state, const TileScratch& scratch) {
  using Word = typename Products::Word;
  const size_t stride = PaddedDim(block.head_dim);
  const size_t first = static_cast<size_t>(row) * stride;
  const Word* q = reinterpret_cast<const Word*>(block.q) + first;
  int32_t visible[kRows];
  for (int32_t r = 0; r < kRows; ++r) {
    visible[r] = std::clamp(block.first_visible + (row + r) / block.group - tile.begin, 0, kTileEntries);
  }
  // Later rows see more. Entries that none of the rows sees are not touched: they may not have been written.
  const int32_t seen = visible[kRows - 1];
  constexpr int32_t kStep = static_cast<int32_t>(kLanes) * Products::kPerWord;  // Whole vectors of words, too.
  const int32_t vectors = (seen + kStep - 1) / kStep * Products::kPerWord;
  MultiplyPanel<Products, kRows, Start::kZero>(q, stride, tile.keys, kTileEntries, block.head_dim / Products::kPerWord,
                                               nullptr, scratch.scores, kTileEntries, vectors);
  HWY_ALIGN float factor[kMaxLanes];
  Weigh<kRows>(visible, vectors, block.scale, scratch.scores, state.max + row,
               state.sum + static_cast<size_t>(row) * kMaxLanes, factor);
  const int32_t dims = static_cast<int32_t>((static_cast<size_t>(block.head_dim) + kLanes - 1) / kLanes);
  const Word* weights = nullptr;
  if constexpr (Products::kPerWord == 1) {
    weights = scratch.scores;
  } else {
    Word* packed = reinterpret_cast<Word*>(scratch.weights);
    Products::template Pack<kRows>(scratch.scores, seen, packed);
    weights = packed;
  }
  MultiplyPanel<Products, kRows, Start::kScaled>(
      weights, kTileEntries / Products::kPerWord, tile.values, tile.value_stride,
      (seen + Products::kPerWord - 1) / Products::kPerWord, factor, state.acc + first, stride, dims);
}

template <class Products, class V>
void AttendRows(const RowBlock& block, int32_t row, const Tile<typename Products::Word, V>& tile,
                const SoftmaxState& state, const TileScratch& scratch) {
  static_assert(kRowsAtOnce == 6);
  for (; row + 6 <= block.rows; row += 6) AttendTile<Products, 6>(block, row, tile, state, scratch);
  switch (block.rows - row) {
    case 1:
      return AttendTile<Products, 1>(block, row, tile, state, scratch);
    case 2:
      return AttendTile<Products, 2>(block, row, tile, state, scratch);
    case 3:
      return AttendTile<Products, 3>(block, row, tile, state, scratch);
    case 4:
      return AttendTile<Products, 4>(block, row, tile, state, scratch);
    case 5:
      return AttendTile<Products, 5>(block, row, tile, state, scratch);
    default:
      return;
  }
}

// ---- Splits ----------------------------------------------------------------------------------------------------

void ResetState(const RowBlock& block, const SoftmaxState& state) {
  std::fill_n(state.acc, static_cast<size_t>(block.rows) * PaddedDim(block.head_dim), 0.0f);
  std::fill_n(state.max, block.rows, kNothingSeen);
  std::fill_n(state.sum, static_cast<size_t>(block.rows) * kMaxLanes, 0.0f);
}

// V is read where it lies if its rows are whole vectors and converting it again for each six rows costs less than
// converting it once.
template <class Products, class T>
bool ReadsValuesInPlace(const KvSource& source, const RowBlock& block, int32_t row, int32_t tile, int32_t n) {
  return Products::kPerWord == 1 && IsContiguous(source, tile, n) &&
         block.head_dim % static_cast<int32_t>(kLanes) == 0 &&
         (sizeof(T) == sizeof(float) || block.rows - row <= kRowsAtOnce);
}

// Of entries [begin, end), at most a tile, in the steps that bringing a tile into shape takes.
template <class Products, class T>
Prefetch PrefetchTile(const KvSource& source, int32_t begin, int32_t end, bool values_in_place) {
  const int32_t n = std::min(kTileEntries, end - begin);
  if (n <= 0 || !IsContiguous(source, begin, n)) return {};
  const size_t row_bytes = static_cast<size_t>(source.head_dim) * sizeof(T);
  const size_t bytes = static_cast<size_t>(n) * row_bytes;
  const size_t key_steps = kTileEntries / kLanes * std::max<size_t>(1, row_bytes / 16);
  const size_t value_steps = values_in_place ? 0 : kTileEntries / Products::kPerWord;
  const size_t row = LocateRow(source, begin);
  return Prefetch({static_cast<const T*>(source.k) + row, bytes}, {static_cast<const T*>(source.v) + row, bytes},
                  key_steps + value_steps);
}

template <class Products, class T>
void AttendSplitOf(const KvSource& source, const RowBlock& block, int32_t begin, const SoftmaxState& state,
                   const TileScratch& scratch) {
  using Word = typename Products::Word;
  const T* k = static_cast<const T*>(source.k);
  const T* v = static_cast<const T*>(source.v);
  const int32_t last_visible = block.first_visible + (block.rows - 1) / block.group;
  const int32_t end = std::min(begin + kSplitEntries, last_visible);
  ResetState(block, state);
  for (int32_t tile = begin; tile < end; tile += kTileEntries) {
    const int32_t n = std::min(kTileEntries, end - tile);
    size_t rows[kTileEntries];
    LocateRows(source, tile, n, rows);
    // Earlier tokens see nothing of this tile.
    const int32_t row = std::max(0, tile + 1 - block.first_visible) * block.group;
    const bool values_in_place = ReadsValuesInPlace<Products, T>(source, block, row, tile, n);
    // Also beyond the split: with luck this thread, or else the shared cache, has it for the next one.
    Prefetch prefetch = PrefetchTile<Products, T>(source, tile + kTileEntries, last_visible, values_in_place);
    Word* keys = reinterpret_cast<Word*>(scratch.keys);
    Word* values = reinterpret_cast<Word*>(scratch.values);
    TransposeKeys<Products>(k, rows, n, block.head_dim, prefetch, keys);
    if constexpr (Products::kPerWord == 2) {
      PairValues(v, rows, n, block.head_dim, prefetch, values);
    } else {
      if (values_in_place) {
        const Tile<Word, T> shaped = {tile, keys, v + rows[0], static_cast<size_t>(block.head_dim)};
        AttendRows<Products>(block, row, shaped, state, scratch);
        continue;
      }
      ConvertValues(v, rows, n, block.head_dim, prefetch, values);
    }
    const Tile<Word, Word> shaped = {tile, keys, values, PaddedDim(block.head_dim)};
    AttendRows<Products>(block, row, shaped, state, scratch);
  }
}

// state = softmax of the block's rows over the entries of the split that begins at entry `begin`.
// REQUIRES: the block's last row sees `begin`.
void AttendSplit(const KvSource& source, const RowBlock& block, int32_t begin, const SoftmaxState& state,
                 const TileScratch& scratch) {
  if (source.dtype == DType::kF32) return AttendSplitOf<FloatProducts, float>(source, block, begin, state, scratch);
#if LUKV_HAVE_BF16_PRODUCTS
  if (source.bf16_products) return AttendSplitOf<PairProducts, uint16_t>(source, block, begin, state, scratch);
#endif
  return AttendSplitOf<FloatProducts, uint16_t>(source, block, begin, state, scratch);
}

// into = softmax over the entries of both. Rows that saw nothing in one of them are left as they are in the other.
void MergeState(const RowBlock& block, const SoftmaxState& from, const SoftmaxState& into) {
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

// Rows [token * group + g] of the block's q from the activations' [tokens, n_heads * head_dim].
void LoadQueries(const ConstMatrix& q, bool bf16, const RowBlock& block) {
  const size_t n = static_cast<size_t>(block.head_dim);
  const size_t stride = PaddedDim(block.head_dim);
  for (int32_t r = 0; r < block.rows; ++r) {
    const float* from =
        q.row<float>(block.first_row + r / block.group) + static_cast<size_t>(block.first_head + r % block.group) * n;
    float* to = block.q + static_cast<size_t>(r) * stride;
    if (bf16) {
      ConvertRow(from, n, reinterpret_cast<uint16_t*>(to));
    } else {
      ConvertRow(from, n, to);
    }
  }
}

// The block's results to their places in the activations. Uses up the state.
void StoreOutputs(const RowBlock& block, const SoftmaxState& state, const Matrix& out) {
  const FloatTag d;
  const size_t n = static_cast<size_t>(block.head_dim);
  const size_t stride = PaddedDim(block.head_dim);
  for (int32_t r = 0; r < block.rows; ++r) {
    float* acc = state.acc + static_cast<size_t>(r) * stride;
    FloatVec lanes = hn::Load(d, state.sum + static_cast<size_t>(r) * kMaxLanes);
    const FloatVec sum = hn::SumOfLanes(d, lanes);
    for (size_t i = 0; i < stride; i += kLanes) hn::Store(hn::Div(hn::Load(d, acc + i), sum), d, acc + i);
    float* to =
        out.row<float>(block.first_row + r / block.group) + static_cast<size_t>(block.first_head + r % block.group) * n;
    std::memcpy(to, acc, n * sizeof(float));
  }
}

void BlockSplit(const ConstMatrix& q, const KvSource& source, RowBlock block, int32_t begin, const SoftmaxState& state,
                const BlockScratch& scratch) {
  block.q = scratch.q;
  LoadQueries(q, source.bf16_products, block);
  AttendSplit(source, block, begin, state, scratch.tile);
}

void MergedBlock(const RowBlock& block, const SoftmaxState* splits, int64_t n, const BlockScratch& scratch,
                 const Matrix& out) {
  ResetState(block, scratch.total);
  for (int64_t i = 0; i < n; ++i) MergeState(block, splits[i], scratch.total);
  StoreOutputs(block, scratch.total, out);
}

void WholeBlock(const ConstMatrix& q, const KvSource& source, RowBlock block, const BlockScratch& scratch,
                const Matrix& out) {
  block.q = scratch.q;
  LoadQueries(q, source.bf16_products, block);
  ResetState(block, scratch.total);
  const int32_t end = block.first_visible + (block.rows - 1) / block.group;
  for (int32_t begin = 0; begin < end; begin += kSplitEntries) {
    AttendSplit(source, block, begin, scratch.split, scratch.tile);
    MergeState(block, scratch.split, scratch.total);
  }
  StoreOutputs(block, scratch.total, out);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(WholeBlock);
HWY_EXPORT(BlockSplit);
HWY_EXPORT(MergedBlock);

void AttendBlock(const OpContext& context, const ConstMatrix& q, const KvSource& source, const RowBlock& block,
                 const BlockScratch& scratch, const Matrix& out) {
  LUKV_DISPATCH(context, WholeBlock)(q, source, block, scratch, out);
}

void AttendBlockSplit(const OpContext& context, const ConstMatrix& q, const KvSource& source, const RowBlock& block,
                      int32_t begin, const SoftmaxState& state, const BlockScratch& scratch) {
  LUKV_DISPATCH(context, BlockSplit)(q, source, block, begin, state, scratch);
}

void MergeBlockSplits(const OpContext& context, const RowBlock& block, const SoftmaxState* splits, int64_t n,
                      const BlockScratch& scratch, const Matrix& out) {
  LUKV_DISPATCH(context, MergedBlock)(block, splits, n, scratch, out);
}

}  // namespace lukv::cpu
#endif
