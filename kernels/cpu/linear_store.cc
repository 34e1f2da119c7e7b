#include "kernels/cpu/linear_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_store.cc"
#include <hwy/foreach_target.h>
// Keep after foreach_target.h.
#include <hwy/highway.h>

#include "kernels/cpu/packed_linear-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {
namespace {

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
      StoreRow(acc + (n * rows + r * kPanelRows), bias != nullptr ? bias + n : nullptr, args.accumulate,
               std::min(kPanelRows, outputs - n), out + n);
    }
  }
}

}  // namespace
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(StorePanels);

void StoreResults(const LinearArgs& args, const float* acc, int64_t first_row, int64_t rows, int64_t first,
                  int64_t outputs, OpContext& context) {
  LUKV_DISPATCH(context, StorePanels)(args, acc, first_row, rows, first, outputs);
}

}  // namespace lukv::cpu
#endif  // HWY_ONCE
