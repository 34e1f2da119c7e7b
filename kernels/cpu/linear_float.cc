#include "kernels/cpu/linear_kernels.h"

#include <algorithm>

#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_float.cc"
#include <hwy/foreach_target.h>
// Keep after foreach_target.h.
#include <hwy/highway.h>

#include "kernels/cpu/packed_linear-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {
namespace {

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
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(MultiplyFloatAny);
HWY_EXPORT(PackFloatTileRows);
HWY_EXPORT(DequantizeAny);

size_t FloatTiles::Bytes(int64_t rows, int64_t inputs) { return static_cast<size_t>(rows * inputs) * sizeof(float); }

void PackFloatRows(const ConstMatrix& in, int64_t t, const FloatTiles& tiles, OpContext& context) {
  const int64_t first = t * kTileRows;
  LUKV_DISPATCH(context, PackFloatTileRows)
  (in, first, std::min(kTileRows, tiles.rows - first), tiles.values + first * tiles.inputs);
}

void MultiplyFloat(DType dtype, const std::byte* panel, const FloatTiles& tiles, int64_t t, float* acc,
                   OpContext& context) {
  const int64_t first = t * kTileRows;
  LUKV_DISPATCH(context, MultiplyFloatAny)
  (dtype, panel, tiles.values + first * tiles.inputs, std::min(kTileRows, tiles.rows - first), tiles.inputs, acc);
}

void DequantizePanel(const PanelLayout& layout, const std::byte* panel, float* out, OpContext& context) {
  LUKV_DISPATCH(context, DequantizeAny)(layout, panel, out);
}

}  // namespace lukv::cpu
#endif  // HWY_ONCE
