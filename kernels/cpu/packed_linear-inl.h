// How kernels read panels (packed_linear.h). Included once per instruction set (Highway's foreach_target).
#if defined(LUKV_KERNELS_CPU_PACKED_LINEAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LUKV_KERNELS_CPU_PACKED_LINEAR_INL_H_
#undef LUKV_KERNELS_CPU_PACKED_LINEAR_INL_H_
#else
#define LUKV_KERNELS_CPU_PACKED_LINEAR_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/packed_linear.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// One register of outputs: a whole panel with AVX-512, half of one with AVX2.
using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using DU8 = hn::Repartition<uint8_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
using VU8 = hn::Vec<DU8>;
inline constexpr size_t kLanes = HWY_LANES(float);
inline constexpr size_t kPanel = kPanelRows;
static_assert(kPanel % kLanes == 0);

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

}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // Per-target include guard.
