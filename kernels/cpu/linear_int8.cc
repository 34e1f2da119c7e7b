#include "kernels/cpu/linear_kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_int8.cc"
#include <hwy/foreach_target.h>
// Keep after foreach_target.h.
#include <hwy/highway.h>

#include "kernels/cpu/packed_linear-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
// Highway 1.0.3 asks cpuid for AVX512-VNNI before it chooses this target, but does not tell the compiler so.
#undef HWY_TARGET_STR
#define HWY_TARGET_STR \
  HWY_TARGET_STR_AVX3 ",vpclmulqdq,avx512vbmi,avx512vbmi2,vaes,avxvnni,avx512bitalg,avx512vpopcntdq,avx512vnni"
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {
namespace {

using DI8 = hn::Repartition<int8_t, DF>;
using DI16 = hn::Repartition<int16_t, DF>;
using VI8 = hn::Vec<DI8>;
using VI16 = hn::Vec<DI16>;

template <typename T>
HWY_INLINE T LoadAs(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// sum + the products of kGroups groups of four: weights w[0..kGroups), activations a[0..4 * kGroups). Exact.
#if HWY_TARGET == HWY_AVX3_DL
template <CodeFormat kFormat, size_t kGroups>
HWY_INLINE VI Dot(VI sum, const VU8* w, const int8_t* a) {
  for (size_t g = 0; g < kGroups; ++g) {
    sum.raw = _mm512_dpbusd_epi32(sum.raw, w[g].raw, hn::Set(DI(), LoadAs<int32_t>(a + 4 * g)).raw);
  }
  return sum;
}
// The dot product takes codes as unsigned; their offset comes off through the sum of the activations.
template <CodeFormat kFormat>
constexpr int kOffsetLog2 = kFormat.offset_log2;
#else
// u8 x i8 in pairs to i16. REQUIRES: no pair overflows.
HWY_INLINE VI16 MultiplyPairs(VU8 w, VI8 a) {
#if HWY_TARGET == HWY_AVX3
  return VI16{_mm512_maddubs_epi16(w.raw, a.raw)};
#else
  return VI16{_mm256_maddubs_epi16(w.raw, a.raw)};
#endif
}

HWY_INLINE VI AddPairs(VI16 v) {
#if HWY_TARGET == HWY_AVX3
  return VI{_mm512_madd_epi16(v.raw, _mm512_set1_epi16(1))};
#else
  return VI{_mm256_madd_epi16(v.raw, _mm256_set1_epi16(1))};
#endif
}

// a with the sign of w.
HWY_INLINE VI8 CopySign(VI8 a, VI8 w) {
#if HWY_TARGET == HWY_AVX3
  return VI8{_mm512_mask_sub_epi8(a.raw, _mm512_movepi8_mask(w.raw), _mm512_setzero_si512(), a.raw)};
#else
  return VI8{_mm256_sign_epi8(a.raw, w.raw)};
#endif
}

template <CodeFormat kFormat, size_t kGroups>
HWY_INLINE VI Dot(VI sum, const VU8* w, const int8_t* a) {
  const DI di;
  const DI8 di8;
  if constexpr (kFormat.max_code == 255) {
    // 255 * 127 * 2 overflows i16: back to the signed code, whose magnitude is at most 128.
    const VI8 sign_bit = hn::Set(di8, static_cast<int8_t>(-128));
    for (size_t g = 0; g < kGroups; ++g) {
      const VI8 code = hn::Xor(hn::BitCast(di8, w[g]), sign_bit);
      const VI8 x = hn::BitCast(di8, hn::Set(di, LoadAs<int32_t>(a + 4 * g)));
      sum = hn::Add(sum, AddPairs(MultiplyPairs(hn::BitCast(DU8(), hn::Abs(code)), CopySign(x, code))));
    }
  } else {
    // As many groups as surely fit are summed in 16 bits.
    constexpr size_t kFit = std::min<size_t>(kGroups, 32767 / (2 * 127 * kFormat.max_code));
    constexpr size_t kRun = kFit >= 8 ? 8 : kFit >= 4 ? 4 : 2;
    for (size_t g = 0; g < kGroups; g += kRun) {
      VI16 pairs = hn::Zero(DI16());
      for (size_t i = g; i < g + kRun; ++i) {
        pairs = hn::Add(pairs, MultiplyPairs(w[i], hn::BitCast(di8, hn::Set(di, LoadAs<int32_t>(a + 4 * i)))));
      }
      sum = hn::Add(sum, AddPairs(pairs));
    }
  }
  return sum;
}
template <CodeFormat kFormat>
constexpr int kOffsetLog2 = kFormat.max_code == 255 ? -1 : kFormat.offset_log2;
#endif

// Where the integer sum starts: -offset * sum of the activations.
template <CodeFormat kFormat>
HWY_INLINE VI StartSum(const int32_t* negated_sum) {
  if constexpr (kOffsetLog2<kFormat> < 0) return hn::Zero(DI());
  return hn::ShiftLeft<std::max(0, kOffsetLog2<kFormat>)>(hn::Set(DI(), *negated_sum));
}

// A block's arithmetic fills the reorder window, so loads that come after it start late and memory would wait for
// arithmetic and the other way round. The whole of a weight is one stream; this is how far ahead it is asked for.
constexpr size_t kPrefetchBytes = 12288;

template <DType kType>
void MultiplyInt8Panel(const PanelLayout& layout, const std::byte* panel, const Int8Tile& tile,
                       float* HWY_RESTRICT acc) {
  constexpr CodeFormat kFormat = CodeFormatOf(kType);
  constexpr size_t kBlockBytes = kPanel * kBlock * kFormat.bits / 8;
  const DF df;
  const size_t rows = static_cast<size_t>(tile.rows);
  const size_t blocks = static_cast<size_t>(layout.inputs / kBlock);
  const size_t bytes_per_block = layout.bytes / blocks;
  for (size_t i = 0; i < rows * kPanel; i += kLanes) hn::Store(hn::Zero(df), df, acc + i);
  for (size_t lane = 0; lane < kPanel; lane += kLanes) {
    for (size_t b = 0; b < blocks; ++b) {
      const std::byte* ahead = panel + b * bytes_per_block + kPrefetchBytes;
      for (size_t line = 0; line < bytes_per_block; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(ahead + line), _MM_HINT_T0);
      VU8 w[8];
      LoadCodes<kFormat>(reinterpret_cast<const uint8_t*>(panel) + b * kBlockBytes + lane * 4, w);
      const Scales s = LoadScales<kFormat>(layout, panel, b, lane);
      const int8_t* values = tile.values + b * rows * kBlock;
      const float* scales = tile.scales + b * rows;
      const float* scaled_sums = tile.scaled_sums + b * rows;
      const int32_t* negated_sums = tile.negated_sums + b * rows;
      const int32_t* negated_half_sums = tile.negated_half_sums + b * rows * 2;
#pragma GCC unroll 4
      for (size_t r = 0; r < rows; ++r) {
        const int8_t* a = values + r * kBlock;
        float* out = acc + r * kPanel + lane;
        const VF scale = hn::Set(df, scales[r]);
        VF sum = hn::Load(df, out);
        if constexpr (kFormat.scale_inputs == 16) {
          const VI first = Dot<kFormat, 4>(StartSum<kFormat>(negated_half_sums + 2 * r), w, a);
          const VI last = Dot<kFormat, 4>(StartSum<kFormat>(negated_half_sums + 2 * r + 1), w + 4, a + 16);
          const VF scaled =
              hn::MulAdd(hn::ConvertTo(df, last), s.scale[1], hn::Mul(hn::ConvertTo(df, first), s.scale[0]));
          sum = hn::MulAdd(scaled, scale, sum);
        } else {
          const VI dot = Dot<kFormat, 8>(StartSum<kFormat>(negated_sums + r), w, a);
          sum = hn::MulAdd(hn::Mul(hn::ConvertTo(df, dot), scale), s.scale[0], sum);
        }
        if constexpr (kFormat.has_min) sum = hn::MulAdd(hn::Set(df, scaled_sums[r]), s.min, sum);
        hn::Store(sum, df, out);
      }
    }
  }
}

void MultiplyInt8Any(const PanelLayout& layout, const std::byte* panel, const Int8Tile& tile, float* acc) {
  switch (layout.dtype) {
    case DType::kQ4_0:
      return MultiplyInt8Panel<DType::kQ4_0>(layout, panel, tile, acc);
    case DType::kQ4_1:
      return MultiplyInt8Panel<DType::kQ4_1>(layout, panel, tile, acc);
    case DType::kQ8_0:
      return MultiplyInt8Panel<DType::kQ8_0>(layout, panel, tile, acc);
    case DType::kQ4_K:
      return MultiplyInt8Panel<DType::kQ4_K>(layout, panel, tile, acc);
    case DType::kQ5_K:
      return MultiplyInt8Panel<DType::kQ5_K>(layout, panel, tile, acc);
    case DType::kQ6_K:
      return MultiplyInt8Panel<DType::kQ6_K>(layout, panel, tile, acc);
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      LUKV_CHECK(false);
  }
}

// Below this a block counts as zero, so that 127 / largest stays finite.
constexpr float kSmallest = 1e-30f;

// The vectors of a block's values as one.
template <class V>
HWY_INLINE auto Concatenate(const V (&q)[2]) {
  const hn::CappedTag<int8_t, kBlock> di8;
  return hn::Combine(di8, q[1], q[0]);
}
template <class V>
HWY_INLINE auto Concatenate(const V (&q)[4]) {
  const hn::CappedTag<int8_t, kBlock> di8;
  const hn::Half<decltype(di8)> dhalf;
  return hn::Combine(di8, hn::Combine(dhalf, q[3], q[2]), hn::Combine(dhalf, q[1], q[0]));
}

void QuantizeBlock(const float* x, int64_t index, const Int8Tile& tile) {
  const DF df;
  constexpr size_t kVectors = kBlock / kLanes;
  VF v[kVectors];
  VF largest = hn::Zero(df);
  for (size_t i = 0; i < kVectors; ++i) {
    v[i] = hn::LoadU(df, x + i * kLanes);
    largest = hn::Max(largest, hn::Abs(v[i]));
  }
  const float absmax = hn::GetLane(hn::MaxOfLanes(df, largest));
  const bool zero = absmax < kSmallest;
  const float scale = zero ? 0.0f : absmax / 127.0f;
  const VF inverse = hn::Set(df, zero ? 0.0f : 127.0f / absmax);
  const hn::Rebind<int8_t, DF> dq;
  hn::Vec<decltype(dq)> q[kVectors];
  for (size_t i = 0; i < kVectors; ++i) q[i] = hn::DemoteTo(dq, hn::NearestInt(hn::Mul(v[i], inverse)));
  const hn::CappedTag<int8_t, kBlock> di8;
  const hn::Vec<decltype(di8)> block = Concatenate(q);
  hn::StoreU(block, di8, tile.values + index * kBlock);
  // Sums of eight bytes each, unsigned: the values are raised by 128 for it.
  const hn::Repartition<uint8_t, decltype(di8)> du8;
  const hn::Repartition<uint64_t, decltype(di8)> du64;
  alignas(32) uint64_t sums[4];
  hn::Store(hn::SumsOf8(hn::Xor(hn::BitCast(du8, block), hn::Set(du8, 0x80))), du64, sums);
  const int32_t first = static_cast<int32_t>(sums[0] + sums[1]) - 16 * 128;
  const int32_t last = static_cast<int32_t>(sums[2] + sums[3]) - 16 * 128;
  tile.scales[index] = scale;
  tile.scaled_sums[index] = scale * static_cast<float>(first + last);
  tile.negated_sums[index] = -(first + last);
  tile.negated_half_sums[index * 2] = -first;
  tile.negated_half_sums[index * 2 + 1] = -last;
}

void QuantizeTileRows(const ConstMatrix& in, int64_t first, int64_t count, int64_t row_in_tile, const Int8Tile& tile) {
  const int64_t blocks = in.cols / kBlock;
  for (int64_t r = 0; r < count; ++r) {
    const float* x = in.row<float>(first + r);
    for (int64_t b = 0; b < blocks; ++b) QuantizeBlock(x + b * kBlock, b * tile.rows + row_in_tile + r, tile);
  }
}

}  // namespace
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(MultiplyInt8Any);
HWY_EXPORT(QuantizeTileRows);

namespace {

// Bytes of the values and of the four arrays beside them, per block of a row.
constexpr size_t kBlockBytes = kBlock + 3 * 4 + 2 * 4;

}  // namespace

size_t Int8Tiles::Bytes(int64_t rows, int64_t inputs) {
  return static_cast<size_t>(rows * (inputs / kBlock)) * kBlockBytes;
}

Int8Tiles::Int8Tiles(int64_t n_rows, int64_t inputs, std::byte* memory) : rows(n_rows), blocks(inputs / kBlock) {
  const int64_t n = rows * blocks;
  all.rows = rows;
  all.values = reinterpret_cast<int8_t*>(memory);
  all.scales = reinterpret_cast<float*>(memory + n * kBlock);
  all.scaled_sums = all.scales + n;
  all.negated_sums = reinterpret_cast<int32_t*>(all.scaled_sums + n);
  all.negated_half_sums = all.negated_sums + n;
}

Int8Tile Int8Tiles::tile(int64_t t) const {
  const int64_t at = t * kTileRows * blocks;
  return {.rows = std::min(kTileRows, rows - t * kTileRows),
          .values = all.values + at * kBlock,
          .scales = all.scales + at,
          .scaled_sums = all.scaled_sums + at,
          .negated_sums = all.negated_sums + at,
          .negated_half_sums = all.negated_half_sums + at * 2};
}

void QuantizeRows(const ConstMatrix& in, int64_t first, int64_t count, const Int8Tiles& tiles, OpContext& context) {
  LUKV_DISPATCH(context, QuantizeTileRows)(in, first, count, first % kTileRows, tiles.tile(first / kTileRows));
}

void MultiplyInt8(const PanelLayout& layout, const std::byte* panel, const Int8Tile& tile, float* acc,
                  OpContext& context) {
  LUKV_DISPATCH(context, MultiplyInt8Any)(layout, panel, tile, acc);
}

}  // namespace lukv::cpu
#endif  // HWY_ONCE
