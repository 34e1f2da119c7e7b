// Vector functions shared by the CPU ops. Included once per instruction set (Highway's foreach_target).
#if defined(LUKV_KERNELS_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LUKV_KERNELS_CPU_VECTOR_MATH_INL_H_
#undef LUKV_KERNELS_CPU_VECTOR_MATH_INL_H_
#else
#define LUKV_KERNELS_CPU_VECTOR_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/float16.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;
inline constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(float);

// 2^f * 2^n for f in [-0.5, 0.5] and n a whole number in the low bits of `shifted`, see Exp2. The polynomial is the
// minimax one of degree 5 for the relative error with the constant term held at 1 (so that 2^0 is exactly 1); its error
// is 9.1e-8, with rounding less than 2.5 ulp in all.
HWY_INLINE FloatVec Exp2Core(FloatTag d, FloatVec f, FloatVec shifted) {
  const hn::RebindToSigned<FloatTag> di;
  FloatVec p = hn::Set(d, 0.001326472731307149f);
  p = hn::MulAdd(p, f, hn::Set(d, 0.009671512991189957f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.05550733581185341f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.24022242426872253f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.6931470036506653f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  // p is in [0.70, 1.42]: adding n to its exponent field multiplies by 2^n.
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

// Adding 1.5 * 2^23 rounds to a whole number and leaves that number in the low bits of the mantissa.
inline constexpr float kRoundingShift = 12582912.0f;

// 2^x for x <= 127; exactly 1 at 0 and exactly 0 below -126, -infinity included.
HWY_INLINE FloatVec Exp2(FloatTag d, FloatVec x) {
  const FloatVec shift = hn::Set(d, kRoundingShift);
  const FloatVec shifted = hn::Add(x, shift);
  const FloatVec f = hn::Sub(x, hn::Sub(shifted, shift));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -126.0f)), Exp2Core(d, f, shifted));
}

// e^x for x <= 87; 0 below -87. ln 2 is taken off in two parts (Cody and Waite), so that large |x| lose nothing.
HWY_INLINE FloatVec Exp(FloatTag d, FloatVec x) {
  const FloatVec shift = hn::Set(d, kRoundingShift);
  const FloatVec shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), shift);
  const FloatVec n = hn::Sub(shifted, shift);
  FloatVec r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  const FloatVec f = hn::Mul(r, hn::Set(d, 1.44269504088896341f));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -87.0f)), Exp2Core(d, f, shifted));
}

// Loads as f32, whatever the element type (bf16 as its 16 bits).
HWY_INLINE FloatVec LoadFloat(FloatTag d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE FloatVec LoadFloat(FloatTag d, const uint16_t* p) {
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::Rebind<uint16_t, FloatTag> dh;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, p))));
}

// Rounds to bf16 like FloatToBf16 (nearest, ties to even; NaN stays NaN).
HWY_INLINE void StoreFloat(FloatTag d, FloatVec v, float* p) { hn::StoreU(v, d, p); }
HWY_INLINE void StoreFloat(FloatTag, FloatVec v, uint16_t* p) {
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::Rebind<uint16_t, FloatTag> dh;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
  const auto picked = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::TruncateTo(dh, hn::ShiftRight<16>(picked)), dh, p);
}

HWY_INLINE float ToFloat(float v) { return v; }
HWY_INLINE float ToFloat(uint16_t v) { return Bf16ToFloat(v); }

// dst[i] = src[i] in the type of dst.
HWY_INLINE void ConvertRow(const float* HWY_RESTRICT src, size_t n, float* HWY_RESTRICT dst) {
  std::memcpy(dst, src, n * sizeof(float));
}
HWY_INLINE void ConvertRow(const float* HWY_RESTRICT src, size_t n, uint16_t* HWY_RESTRICT dst) {
  const FloatTag d;
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreFloat(d, hn::LoadU(d, src + i), dst + i);
  for (; i < n; ++i) dst[i] = FloatToBf16(src[i]);
}

// Sum of x[i]^2 in a fixed order. Two chains of lanes hide the latency of the additions.
template <class T>
HWY_INLINE float SumOfSquares(const T* HWY_RESTRICT x, size_t n) {
  const FloatTag d;
  FloatVec a = hn::Zero(d);
  FloatVec b = hn::Zero(d);
  size_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const FloatVec x0 = LoadFloat(d, x + i);
    const FloatVec x1 = LoadFloat(d, x + i + kLanes);
    a = hn::MulAdd(x0, x0, a);
    b = hn::MulAdd(x1, x1, b);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < n; ++i) sum += ToFloat(x[i]) * ToFloat(x[i]);
  return sum;
}

// RMS norm of one head's n values.
HWY_INLINE void NormHead(const float* HWY_RESTRICT x, size_t n, const float* HWY_RESTRICT weight, float epsilon,
                         float* HWY_RESTRICT out) {
  const float scale = 1.0f / std::sqrt(SumOfSquares(x, n) / static_cast<float>(n) + epsilon);
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
