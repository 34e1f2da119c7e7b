#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// silu(x) = x / (1 + e^-x). e^-x is taken for |x| alone, where it cannot overflow: for x < 0 it is
// x * e^x / (1 + e^x).
HWY_INLINE FloatVec Silu(FloatTag d, FloatVec x) {
  const FloatVec e = Exp(d, hn::Neg(hn::Abs(x)));
  const FloatVec numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(x, e), x);
  return hn::Div(numerator, hn::Add(hn::Set(d, 1.0f), e));
}

void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end) {
  const FloatTag d;
  const size_t n = static_cast<size_t>(args.out.cols);
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up.row<float>(r);
    const float* up = gate + n;
    float* out = args.out.row<float>(r);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      hn::StoreU(hn::Mul(Silu(d, hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, out + i);
    }
    if (i < n) {
      HWY_ALIGN float tail[2][kLanes] = {};
      std::memcpy(tail[0], gate + i, (n - i) * sizeof(float));
      std::memcpy(tail[1], up + i, (n - i) * sizeof(float));
      hn::Store(hn::Mul(Silu(d, hn::Load(d, tail[0])), hn::Load(d, tail[1])), d, tail[0]);
      std::memcpy(out + i, tail[0], (n - i) * sizeof(float));
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(SiluMulRows);

void SiluMul(const SiluMulArgs& args, OpContext& context) {
  constexpr int64_t kRowsPerTask = 8;
  const int64_t rows = args.out.rows;
  context.pool.ParallelFor((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    LUKV_DISPATCH(context, SiluMulRows)(args, begin, std::min(begin + kRowsPerTask, rows));
  });
}

void GatherRows(const GatherRowsArgs& args, OpContext&) {
  // A few rows at the end of a step: not worth waking a thread for.
  const size_t bytes = static_cast<size_t>(args.out.cols) * sizeof(float);
  for (int64_t r = 0; r < args.out.rows; ++r) {
    std::memcpy(args.out.row<float>(r), args.in.row<float>(args.rows[r]), bytes);
  }
}

}  // namespace lukv::cpu
#endif
