#include "kernels/cpu/linear_kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"

#if HWY_TARGET == HWY_AVX3_DL
// Highway 1.0.3 asks cpuid for AVX512-VNNI before it chooses this target, but does not tell the compiler so.
#undef HWY_TARGET_STR
#define HWY_TARGET_STR \
  HWY_TARGET_STR_AVX3 ",vpclmulqdq,avx512vbmi,avx512vbmi2,vaes,avxvnni,avx512bitalg,avx512vpopcntdq,avx512vnni"
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// One register of outputs: a whole panel with AVX-512, half of one with AVX2.
using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using DI8 = hn::Repartition<int8_t, DF>;
using DU8 = hn::Repartition<uint8_t, DF>;
using DI16 = hn::Repartition<int16_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
using VI8 = hn::Vec<DI8>;
using VU8 = hn::Vec<DU8>;
using VI16 = hn::Vec<DI16>;
constexpr size_t kLanes = HWY_LANES(float);
constexpr size_t kPanel = kPanelRows;
static_assert(kPanel % kLanes == 0);

template <typename T>
HWY_INLINE T LoadAs(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading panels

// The codes of four inputs of kLanes outputs, for each of the 8 groups of a block. `codes` is the block's first byte
// for the wanted outputs.
template <CodeFormat kFormat>
HWY_INLINE void LoadCodes(const uint8_t* codes, VU8 (&w)[8]) {
  const DU8 du8;
  if constexpr (kFormat.bits == 4) {
    const VU8 mask = hn::Set(du8, 0x0f);
    for (size_t j = 0; j < 4; ++j) {
      const VU8 pair = hn::Load(du8, codes + j * 4 * kPanel);
      w[2 * j] = hn::And(pair, mask);
      const hn::Repartition<uint16_t, DF> du16;
      w[2 * j + 1] = hn::And(hn::BitCast(du8, hn::ShiftRight<4>(hn::BitCast(du16, pair))), mask);
    }
  } else {
    for (size_t j = 0; j < 8; ++j) w[j] = hn::Load(du8, codes + j * 4 * kPanel);
  }
}

HWY_INLINE VF LoadHalf(const std::byte* p) {
  const hn::Rebind<hwy::float16_t, DF> df16;
  return hn::PromoteTo(DF(), hn::LoadU(df16, reinterpret_cast<const hwy::float16_t*>(p)));
}

template <typename T>
HWY_INLINE VF LoadBytes(const std::byte* p) {
  const hn::Rebind<T, DF> d8;
  return hn::ConvertTo(DF(), hn::PromoteTo(DI(), hn::LoadU(d8, reinterpret_cast<const T*>(p))));
}

// What the codes of one block are multiplied by. `scale[1]` is that of the last 16 inputs if they have their own.
struct Scales {
  VF scale[2];
  VF min;
};

template <CodeFormat kFormat>
HWY_INLINE Scales LoadScales(const PanelLayout& layout, const std::byte* panel, size_t block, size_t lane) {
  Scales s{{hn::Zero(DF()), hn::Zero(DF())}, hn::Zero(DF())};
  const size_t at = block * kPanel + lane;
  if constexpr (!kFormat.super_scaled) {
    s.scale[0] = LoadHalf(panel + layout.scales + at * 2);
    if constexpr (kFormat.has_min) s.min = LoadHalf(panel + layout.mins + at * 2);
    return s;
  }
  const size_t super_at = (block / (kSuperBlock / kBlock) * kPanel + lane) * 2;
  const VF super = LoadHalf(panel + layout.supers + super_at);
  if constexpr (kFormat.scale_inputs == 16) {
    const size_t at16 = block * 2 * kPanel + lane;
    s.scale[0] = hn::Mul(super, LoadBytes<int8_t>(panel + layout.scales + at16));
    s.scale[1] = hn::Mul(super, LoadBytes<int8_t>(panel + layout.scales + at16 + kPanel));
  } else {
    s.scale[0] = hn::Mul(super, LoadBytes<uint8_t>(panel + layout.scales + at));
  }
  if constexpr (kFormat.has_min) {
    s.min = hn::Mul(LoadHalf(panel + layout.super_mins + super_at), LoadBytes<uint8_t>(panel + layout.mins + at));
  }
  return s;
}

// ---------------------------------------------------------------------------------------------------------------------
// Integer dot products

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

// ---------------------------------------------------------------------------------------------------------------------
// Quantising activations

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

// ---------------------------------------------------------------------------------------------------------------------
// Float products

// Rows that a kernel keeps in registers: all sums, the weights and a broadcast have to fit 32 (AVX2: 16) registers.
constexpr int64_t kGroupRows = kLanes == 16 ? 16 : 6;

// The next group of a tile that still has `rows` rows: the largest size there is a kernel for.
HWY_INLINE int64_t GroupSize(int64_t rows) {
  return rows >= kGroupRows ? kGroupRows : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

HWY_INLINE VF LoadWeights(const float* p) { return hn::Load(DF(), p); }
HWY_INLINE VF LoadWeights(const hwy::float16_t* p) { return LoadHalf(reinterpret_cast<const std::byte*>(p)); }
HWY_INLINE VF LoadWeights(const hwy::bfloat16_t* p) {
  return hn::PromoteTo(DF(), hn::Load(hn::Rebind<hwy::bfloat16_t, DF>(), p));
}

template <int kRows, typename T>
void MultiplyFloatGroup(const T* HWY_RESTRICT w, const float* HWY_RESTRICT x, int64_t inputs, float* HWY_RESTRICT acc) {
  constexpr size_t kVectors = kPanel / kLanes;
  const DF df;
  VF sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(df);
  }
  for (int64_t k = 0; k < inputs; ++k) {
    VF weights[kVectors];
    for (size_t v = 0; v < kVectors; ++v) weights[v] = LoadWeights(w + static_cast<size_t>(k) * kPanel + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const VF value = hn::Set(df, x[k * kRows + r]);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(value, weights[v], sum[r][v]);
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) hn::Store(sum[r][v], df, acc + r * kPanel + v * kLanes);
  }
}

template <typename T>
void MultiplyFloatTile(const std::byte* panel, const float* x, int64_t rows, int64_t inputs, float* acc) {
  const T* w = reinterpret_cast<const T*>(panel);
  for (int64_t r = 0; r < rows;) {
    const int64_t group = GroupSize(rows - r);
    switch (group) {
      case kGroupRows:
        MultiplyFloatGroup<kGroupRows>(w, x + r * inputs, inputs, acc + r * kPanelRows);
        break;
      case 4:
        MultiplyFloatGroup<4>(w, x + r * inputs, inputs, acc + r * kPanelRows);
        break;
      case 2:
        MultiplyFloatGroup<2>(w, x + r * inputs, inputs, acc + r * kPanelRows);
        break;
      default:
        MultiplyFloatGroup<1>(w, x + r * inputs, inputs, acc + r * kPanelRows);
    }
    r += group;
  }
}

void MultiplyFloatAny(DType dtype, const std::byte* panel, const float* x, int64_t rows, int64_t inputs, float* acc) {
  switch (dtype) {
    case DType::kF32:
      return MultiplyFloatTile<float>(panel, x, rows, inputs, acc);
    case DType::kF16:
      return MultiplyFloatTile<hwy::float16_t>(panel, x, rows, inputs, acc);
    case DType::kBF16:
      return MultiplyFloatTile<hwy::bfloat16_t>(panel, x, rows, inputs, acc);
    default:
      LUKV_CHECK(false);
  }
}

// x[inputs][group] of each group of the tile's rows, one group after the other.
void PackFloatTileRows(const ConstMatrix& in, int64_t first, int64_t rows, float* HWY_RESTRICT x) {
  for (int64_t r = 0; r < rows;) {
    const int64_t group = GroupSize(rows - r);
    for (int64_t i = 0; i < group; ++i) {
      const float* HWY_RESTRICT row = in.row<float>(first + r + i);
      float* HWY_RESTRICT out = x + r * in.cols + i;
      for (int64_t k = 0; k < in.cols; ++k) out[k * group] = row[k];
    }
    r += group;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Results

// outputs <= 16.
HWY_INLINE void StoreRow(const float* HWY_RESTRICT sum, const float* bias, bool accumulate, int64_t outputs,
                         float* HWY_RESTRICT out) {
  const DF df;
  if (outputs < kPanelRows) {
    for (int64_t n = 0; n < outputs; ++n) {
      const float value = bias != nullptr ? sum[n] + bias[n] : sum[n];
      out[n] = accumulate ? out[n] + value : value;
    }
    return;
  }
  for (size_t n = 0; n < kPanel; n += kLanes) {
    VF value = hn::Load(df, sum + n);
    if (bias != nullptr) value = hn::Add(value, hn::LoadU(df, bias + n));
    if (accumulate) value = hn::Add(hn::LoadU(df, out + n), value);
    hn::StoreU(value, df, out + n);
  }
}

void StorePanels(const LinearArgs& args, const float* HWY_RESTRICT acc, int64_t first_row, int64_t rows, int64_t first,
                 int64_t outputs) {
  const float* bias = args.bias != nullptr ? args.bias + first : nullptr;
  for (int64_t r = 0; r < rows; ++r) {
    float* out = args.out.row<float>(first_row + r) + first;
    for (int64_t n = 0; n < outputs; n += kPanelRows) {
      StoreRow(acc + (n * kTileRows + r * kPanelRows), bias != nullptr ? bias + n : nullptr, args.accumulate,
               std::min(kPanelRows, outputs - n), out + n);
    }
  }
}

template <DType kType>
void DequantizeCodes(const PanelLayout& layout, const std::byte* panel, float* HWY_RESTRICT out) {
  constexpr CodeFormat kFormat = CodeFormatOf(kType);
  constexpr size_t kBlockBytes = kPanel * kBlock * kFormat.bits / 8;
  const DF df;
  const DI di;
  const DU du;
  const VI offset = hn::Set(di, kFormat.offset_log2 < 0 ? 0 : 1 << std::max(0, kFormat.offset_log2));
  const auto mask = hn::Set(du, 0xffu);
  for (size_t lane = 0; lane < kPanel; lane += kLanes) {
    for (size_t b = 0; b < static_cast<size_t>(layout.inputs / kBlock); ++b) {
      VU8 w[8];
      LoadCodes<kFormat>(reinterpret_cast<const uint8_t*>(panel) + b * kBlockBytes + lane * 4, w);
      const Scales s = LoadScales<kFormat>(layout, panel, b, lane);
      for (size_t g = 0; g < 8; ++g) {
        const VF scale = s.scale[kFormat.scale_inputs == 16 ? g / 4 : 0];
        auto four = hn::BitCast(du, w[g]);
        for (size_t i = 0; i < 4; ++i) {
          const VI code = hn::Sub(hn::BitCast(di, hn::And(four, mask)), offset);
          hn::Store(hn::MulAdd(hn::ConvertTo(df, code), scale, s.min), df,
                    out + (b * kBlock + g * 4 + i) * kPanel + lane);
          four = hn::ShiftRight<8>(four);
        }
      }
    }
  }
}

void DequantizeAny(const PanelLayout& layout, const std::byte* panel, float* out) {
  switch (layout.dtype) {
    case DType::kQ4_0:
      return DequantizeCodes<DType::kQ4_0>(layout, panel, out);
    case DType::kQ4_1:
      return DequantizeCodes<DType::kQ4_1>(layout, panel, out);
    case DType::kQ8_0:
      return DequantizeCodes<DType::kQ8_0>(layout, panel, out);
    case DType::kQ4_K:
      return DequantizeCodes<DType::kQ4_K>(layout, panel, out);
    case DType::kQ5_K:
      return DequantizeCodes<DType::kQ5_K>(layout, panel, out);
    case DType::kQ6_K:
      return DequantizeCodes<DType::kQ6_K>(layout, panel, out);
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      LUKV_CHECK(false);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lukv::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(MultiplyInt8Any);
HWY_EXPORT(QuantizeTileRows);
HWY_EXPORT(MultiplyFloatAny);
HWY_EXPORT(PackFloatTileRows);
HWY_EXPORT(DequantizeAny);
HWY_EXPORT(StorePanels);

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

size_t FloatTiles::Bytes(int64_t rows, int64_t inputs) { return static_cast<size_t>(rows * inputs) * sizeof(float); }

void QuantizeRows(const ConstMatrix& in, int64_t first, int64_t count, const Int8Tiles& tiles, OpContext& context) {
  LUKV_DISPATCH(context, QuantizeTileRows)(in, first, count, first % kTileRows, tiles.tile(first / kTileRows));
}

void PackFloatRows(const ConstMatrix& in, int64_t t, const FloatTiles& tiles, OpContext& context) {
  const int64_t first = t * kTileRows;
  LUKV_DISPATCH(context, PackFloatTileRows)
  (in, first, std::min(kTileRows, tiles.rows - first), tiles.values + first * tiles.inputs);
}

void MultiplyInt8(const PanelLayout& layout, const std::byte* panel, const Int8Tile& tile, float* acc,
                  OpContext& context) {
  LUKV_DISPATCH(context, MultiplyInt8Any)(layout, panel, tile, acc);
}

void MultiplyFloat(DType dtype, const std::byte* panel, const FloatTiles& tiles, int64_t t, float* acc,
                   OpContext& context) {
  const int64_t first = t * kTileRows;
  LUKV_DISPATCH(context, MultiplyFloatAny)
  (dtype, panel, tiles.values + first * tiles.inputs, std::min(kTileRows, tiles.rows - first), tiles.inputs, acc);
}

void StoreResults(const LinearArgs& args, const float* acc, int64_t first_row, int64_t rows, int64_t first,
                  int64_t outputs, OpContext& context) {
  LUKV_DISPATCH(context, StorePanels)(args, acc, first_row, rows, first, outputs);
}

void DequantizePanel(const PanelLayout& layout, const std::byte* panel, float* out, OpContext& context) {
  LUKV_DISPATCH(context, DequantizeAny)(layout, panel, out);
}

}  // namespace lukv::cpu
#endif  // HWY_ONCE
