#include "kernels/cpu/linear_kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

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

// sum + the products of a block with row r of one digit.
template <CodeFormat kFormat>
HWY_INLINE VF AddDigit(VF sum, const VU8 (&w)[8], const Scales& s, const Int8Digit& digit, size_t r) {
  const DF df;
  const int8_t* a = digit.values + r * kBlock;
  const VF scale = hn::Set(df, digit.scales[r]);
  if constexpr (kFormat.scale_inputs == 16) {
    const VI first = Dot<kFormat, 4>(StartSum<kFormat>(digit.negated_half_sums + 2 * r), w, a);
    const VI last = Dot<kFormat, 4>(StartSum<kFormat>(digit.negated_half_sums + 2 * r + 1), w + 4, a + 16);
    const VF scaled = hn::MulAdd(hn::ConvertTo(df, last), s.scale[1], hn::Mul(hn::ConvertTo(df, first), s.scale[0]));
    return hn::MulAdd(scaled, scale, sum);
  }
  const VI dot = Dot<kFormat, 8>(StartSum<kFormat>(digit.negated_sums + r), w, a);
  return hn::MulAdd(hn::Mul(hn::ConvertTo(df, dot), scale), s.scale[0], sum);
}

// sums[i] + the products of a block with row i of consecutive rows. In turns: a row's products wait for each other, and
// more rows would have to be under way than a core looks ahead if they came one after the other.
template <CodeFormat kFormat, size_t kRows>
HWY_INLINE void DotRows(VI (&sums)[kRows], const VU8 (&w)[8], const int8_t* a) {
#if HWY_TARGET == HWY_AVX3_DL
  for (size_t g = 0; g < 8; ++g) {
    for (size_t i = 0; i < kRows; ++i) {
      const VI x = hn::Set(DI(), LoadAs<int32_t>(a + i * kBlock + 4 * g));
      sums[i].raw = _mm512_dpbusd_epi32(sums[i].raw, w[g].raw, x.raw);
    }
  }
#else
  for (size_t i = 0; i < kRows; ++i) sums[i] = Dot<kFormat, 8>(sums[i], w, a + i * kBlock);
#endif
}

// The products of a block with the first digits of rows [r, r + kRows), and its minimum, into acc. The operations of a
// row are those of AddDigit.
template <CodeFormat kFormat, size_t kRows>
HWY_INLINE void AddRows(const VU8 (&w)[8], const Scales& s, const Int8Digit& digit, const float* scaled_sums, size_t r,
                        float* HWY_RESTRICT acc) {
  const DF df;
  VI dots[kRows];
  for (size_t i = 0; i < kRows; ++i) dots[i] = StartSum<kFormat>(digit.negated_sums + r + i);
  DotRows<kFormat>(dots, w, digit.values + r * kBlock);
  for (size_t i = 0; i < kRows; ++i) {
    float* out = acc + (r + i) * kPanel;
    const VF scaled = hn::Mul(hn::ConvertTo(df, dots[i]), hn::Set(df, digit.scales[r + i]));
    VF sum = hn::MulAdd(scaled, s.scale[0], hn::Load(df, out));
    if constexpr (kFormat.has_min) sum = hn::MulAdd(hn::Set(df, scaled_sums[r + i]), s.min, sum);
    hn::Store(sum, df, out);
  }
}

// Bit r: the block has two digits in row r.
HWY_INLINE uint64_t FineRows(const Int8Tile& tile, size_t block) {
  static_assert(kTileRows == 64 && kQuantizeRows == 16);
  const uint64_t written = ~uint64_t{0} >> (kTileRows - tile.rows);
  return LoadAs<uint64_t>(tile.fine + block * (kTileRows / kQuantizeRows)) & written;
}

// A block's arithmetic fills the reorder window, so loads that come after it start late and memory would wait for
// arithmetic and the other way round. The whole of a weight is one stream; this is how far ahead it is asked for.
constexpr size_t kPrefetchBytes = 12288;

// The tile is a copy, so that its pointers need not be read again after every store to acc.
template <DType kType>
void MultiplyInt8Panel(const PanelLayout& layout, const std::byte* panel, const Int8Tile tile,
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
      const Int8Digit first = tile.first.From(b * rows);
      const float* scaled_sums = tile.scaled_sums + b * rows;
      size_t r = 0;
      if constexpr (kFormat.scale_inputs == 32) {
        constexpr size_t kRows = 4;
        for (; r + kRows <= rows; r += kRows) AddRows<kFormat, kRows>(w, s, first, scaled_sums, r, acc + lane);
      }
      for (; r < rows; ++r) {
        float* out = acc + r * kPanel + lane;
        VF sum = AddDigit<kFormat>(hn::Load(df, out), w, s, first, r);
        if constexpr (kFormat.has_min) sum = hn::MulAdd(hn::Set(df, scaled_sums[r]), s.min, sum);
        hn::Store(sum, df, out);
      }
      // A loop of its own over the few rows that need it: no branch in the loop above.
      const uint64_t fine_rows = FineRows(tile, b);
      if (HWY_LIKELY(fine_rows == 0)) continue;
      const Int8Digit second = tile.second.From(b * rows);
      for (uint64_t left = fine_rows; left != 0; left &= left - 1) {
        const size_t row = static_cast<size_t>(std::countr_zero(left));
        float* out = acc + row * kPanel + lane;
        hn::Store(AddDigit<kFormat>(hn::Load(df, out), w, s, second, row), df, out);
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

// Below this a block counts as zero, so that kFineSteps / largest stays finite.
constexpr float kSmallest = 1e-30f;

// A second digit is for blocks whose largest value exceeds this many times the root mean square of the row: a block's
// rounding error is proportional to its largest value, so few blocks cause most of a row's error. Per row and block,
// and not per weight, because that buys more for its time. The demo model with bf16 KV on the three texts of
// demo_logits_test.cc (avx512_vnni), and the thread time of prefill at 512 tokens relative to one digit everywhere:
//   second digit                  blocks   mean KL, 1e-3 nat     top-1, %              time
//   nowhere                       0 %      2.91  2.31  5.66      95.3  97.8  94.7      1
//   ratio 6                       8 %      0.71  0.57  1.27      98.0  98.6  97.0      1.07
//   ratio 4                       19 %     0.45  0.37  0.90      98.7  98.5  98.0      1.12
//   ratio 3                       32 %     0.29  0.28  0.55      98.7  99.4  98.4      1.19
//   ratio 2                       60 %     0.14  0.14  0.27      99.3  99.4  98.6      1.38
//   everywhere, in one loop       100 %    0.02  0.03  0.08      99.6  99.6  99.8      1.46
//   in all of qkv, logits         -        1.24  1.07  2.28      97.3  98.5  97.5      1.07
//   in those and gate_up          -        0.52  0.49  1.19      97.6  98.8  97.9      1.29
// The layers of a decode step take about 3 % more; most of their time is spent on reading the weights.
constexpr float kFineRatio = 4;

// Where the largest value of a block lands. With two digits q = 128 * first + second: |first| <= 127, |second| <= 64.
constexpr int kDigitBits = 7;
constexpr float kSteps = 127;
constexpr float kFineSteps = 127 * 128 + 63;

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

// Writes one digit of a block. Returns the sum of its values.
template <class V, size_t kVectors>
HWY_INLINE int32_t StoreDigit(const V (&q)[kVectors], float scale, int64_t index, const Int8Digit& digit) {
  const hn::Rebind<int8_t, DF> dq;
  hn::Vec<decltype(dq)> narrow[kVectors];
  for (size_t i = 0; i < kVectors; ++i) narrow[i] = hn::DemoteTo(dq, q[i]);
  const hn::CappedTag<int8_t, kBlock> di8;
  const hn::Vec<decltype(di8)> block = Concatenate(narrow);
  hn::StoreU(block, di8, digit.values + index * kBlock);
  // Sums of eight bytes each, unsigned: the values are raised by 128 for it.
  const hn::Repartition<uint8_t, decltype(di8)> du8;
  const hn::Repartition<uint64_t, decltype(di8)> du64;
  alignas(32) uint64_t sums[4];
  hn::Store(hn::SumsOf8(hn::Xor(hn::BitCast(du8, block), hn::Set(du8, 0x80))), du64, sums);
  const int32_t first = static_cast<int32_t>(sums[0] + sums[1]) - 16 * 128;
  const int32_t last = static_cast<int32_t>(sums[2] + sums[3]) - 16 * 128;
  digit.scales[index] = scale;
  digit.negated_sums[index] = -(first + last);
  digit.negated_half_sums[index * 2] = -first;
  digit.negated_half_sums[index * 2 + 1] = -last;
  return first + last;
}

// Returns whether the block got two digits: its largest value is above `fine_limit`.
bool QuantizeBlock(const float* x, float fine_limit, int64_t index, const Int8Tile& tile) {
  const DF df;
  const DI di;
  constexpr size_t kVectors = kBlock / kLanes;
  VF v[kVectors];
  // As integers: the bits of absolute values are ordered as the values are, with infinity and NaN above all others.
  VI largest = hn::Zero(di);
  for (size_t i = 0; i < kVectors; ++i) {
    v[i] = hn::LoadU(df, x + i * kLanes);
    largest = hn::Max(largest, hn::BitCast(di, hn::Abs(v[i])));
  }
  const float absmax = std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, largest)));
  const bool finite = absmax <= std::numeric_limits<float>::max();
  const bool zero = absmax < kSmallest;
  const bool fine = finite && !zero && absmax > fine_limit;
  const float steps = fine ? kFineSteps : kSteps;
  const float step = zero ? 0.0f : finite ? absmax / steps : std::numeric_limits<float>::quiet_NaN();
  const VF inverse = hn::Set(df, zero || !finite ? 0.0f : steps / absmax);
  VI q[kVectors];
  for (size_t i = 0; i < kVectors; ++i) q[i] = hn::NearestInt(hn::Mul(v[i], inverse));
  if (!fine) {
    tile.scaled_sums[index] = step * static_cast<float>(StoreDigit(q, step, index, tile.first));
    return false;
  }
  VI first[kVectors];
  for (size_t i = 0; i < kVectors; ++i) {
    first[i] = hn::ShiftRight<kDigitBits>(hn::Add(q[i], hn::Set(di, 1 << (kDigitBits - 1))));
    q[i] = hn::Sub(q[i], hn::ShiftLeft<kDigitBits>(first[i]));
  }
  constexpr int32_t kDigit = 1 << kDigitBits;
  const int32_t sum = StoreDigit(first, step * kDigit, index, tile.first) * kDigit;
  tile.scaled_sums[index] = step * static_cast<float>(sum + StoreDigit(q, step, index, tile.second));
  return true;
}

// What a block's largest value must exceed for a second digit.
float FineLimit(const float* x, int64_t inputs) {
  const DF df;
  VF squares = hn::Zero(df);
  for (int64_t k = 0; k < inputs; k += kLanes) {
    const VF v = hn::LoadU(df, x + k);
    squares = hn::MulAdd(v, v, squares);
  }
  return kFineRatio * std::sqrt(hn::GetLane(hn::SumOfLanes(df, squares)) / static_cast<float>(inputs));
}

void QuantizeTileRows(const ConstMatrix& in, int64_t first, int64_t count, int64_t row_in_tile, const Int8Tile& tile) {
  const int64_t blocks = in.cols / kBlock;
  uint16_t* fine = tile.fine + row_in_tile / kQuantizeRows;
  for (int64_t b = 0; b < blocks; ++b) fine[b * (kTileRows / kQuantizeRows)] = 0;
  for (int64_t r = 0; r < count; ++r) {
    const float* x = in.row<float>(first + r);
    const float limit = FineLimit(x, in.cols);
    for (int64_t b = 0; b < blocks; ++b) {
      if (!QuantizeBlock(x + b * kBlock, limit, b * tile.rows + row_in_tile + r, tile)) continue;
      fine[b * (kTileRows / kQuantizeRows)] |= static_cast<uint16_t>(1 << r);
    }
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

constexpr size_t kWords = kTileRows / kQuantizeRows;

size_t Elements(int64_t rows, int64_t inputs) { return static_cast<size_t>(rows * (inputs / kBlock)); }

}  // namespace

size_t Int8Tiles::Bytes(int64_t rows, int64_t inputs) {
  const size_t tiles = static_cast<size_t>((rows + kTileRows - 1) / kTileRows);
  // Two digits with four factors each, and the scaled sum.
  return Elements(rows, inputs) * (2 * (kBlock + 4 * 4) + 4) +
         tiles * static_cast<size_t>(inputs / kBlock) * kWords * 2;
}

Int8Tiles::Int8Tiles(int64_t n_rows, int64_t inputs, std::byte* memory) : rows(n_rows), blocks(inputs / kBlock) {
  const int64_t n = rows * blocks;
  const auto take = [&](auto*& array, int64_t size) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(memory);
    memory += size * static_cast<int64_t>(sizeof(*array));
  };
  all.rows = rows;
  for (Int8Digit* digit : {&all.first, &all.second}) {
    take(digit->values, n * kBlock);
    take(digit->scales, n);
    take(digit->negated_sums, n);
    take(digit->negated_half_sums, n * 2);
  }
  take(all.scaled_sums, n);
  take(all.fine, (rows + kTileRows - 1) / kTileRows * blocks * static_cast<int64_t>(kWords));
}

Int8Tile Int8Tiles::tile(int64_t t) const {
  const int64_t at = t * kTileRows * blocks;
  return {.rows = std::min(kTileRows, rows - t * kTileRows),
          .first = all.first.From(static_cast<size_t>(at)),
          .second = all.second.From(static_cast<size_t>(at)),
          .fine = all.fine + t * blocks * static_cast<int64_t>(kWords),
          .scaled_sums = all.scaled_sums + at};
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
