#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

void NormRows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const FloatTag d;
  const size_t n = static_cast<size_t>(args.x.cols);
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x.row<float>(r);
    float* out = args.out.row<float>(r);
    const float scale = 1.0f / std::sqrt(SumOfSquares(x, n) / static_cast<float>(n) + args.epsilon);
    const FloatVec vscale = hn::Set(d, scale);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const FloatVec scaled = hn::Mul(hn::LoadU(d, x + i), vscale);
      hn::StoreU(hn::Mul(scaled, hn::LoadU(d, args.weight + i)), d, out + i);
    }
    for (; i < n; ++i) out[i] = x[i] * scale * args.weight[i];
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(NormRows);

void RmsNorm(const RmsNormArgs& args, OpContext& context) {
  constexpr int64_t kRowsPerTask = 32;  // A row takes well under a microsecond; waking a thread takes several.
  const int64_t rows = args.x.rows;
  context.pool.ParallelFor((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    LUKV_DISPATCH(context, NormRows)(args, begin, std::min(begin + kRowsPerTask, rows));
  });
}

}  // namespace lukv::cpu
#endif
