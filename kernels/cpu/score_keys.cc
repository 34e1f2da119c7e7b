// Scores that only the keys decide: their norms, and their likeness to the mean direction.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/kv_source.h"
#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/score_keys.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

template <class T>
HWY_INLINE void NegateNorms(const T* k, size_t head_dim, int32_t n, float* scores) {
  for (int32_t i = 0; i < n; ++i, k += head_dim) scores[i] = -std::sqrt(SumOfSquares(k, head_dim));
}

// inverse[i] = 1 / |k[i]| and sum = sum of the n keys over their norms, in the order of the keys. A key of zeros has no
// direction and counts as zeros.
template <class T>
HWY_INLINE void SumDirections(const T* k, size_t head_dim, int32_t n, float* inverse, float* HWY_RESTRICT sum) {
  const FloatTag d;
  std::fill_n(sum, PaddedDim(static_cast<int32_t>(head_dim)), 0.0f);
  for (int32_t i = 0; i < n; ++i, k += head_dim) {
    inverse[i] = 1.0f / std::max(std::sqrt(SumOfSquares(k, head_dim)), 1e-12f);
    const FloatVec factor = hn::Set(d, inverse[i]);
    size_t x = 0;
    for (; x + kLanes <= head_dim; x += kLanes) {
      hn::Store(hn::MulAdd(LoadFloat(d, k + x), factor, hn::Load(d, sum + x)), d, sum + x);
    }
    for (; x < head_dim; ++x) sum[x] = std::fma(ToFloat(k[x]), inverse[i], sum[x]);
  }
}

// scores[i] = -(anchor . k[i]) * scores[i], where scores hold the inverse norms.
template <class T>
HWY_INLINE void NegateCosines(const T* k, size_t head_dim, int32_t n, const float* anchor, float* scores) {
  const FloatTag d;
  for (int32_t i = 0; i < n; ++i, k += head_dim) {
    FloatVec lanes = hn::Zero(d);
    size_t x = 0;
    for (; x + kLanes <= head_dim; x += kLanes) {
      lanes = hn::MulAdd(LoadFloat(d, k + x), hn::Load(d, anchor + x), lanes);
    }
    float dot = hn::GetLane(hn::SumOfLanes(d, lanes));
    for (; x < head_dim; ++x) dot = std::fma(ToFloat(k[x]), anchor[x], dot);
    scores[i] *= -dot;
  }
}

void KeyNorms(const KvSource& source, int32_t begin, int32_t n, float* scores) {
  const size_t head_dim = static_cast<size_t>(source.head_dim);
  const size_t at = static_cast<size_t>(begin) * head_dim;
  if (source.dtype == DType::kF32) return NegateNorms(static_cast<const float*>(source.k) + at, head_dim, n, scores);
  NegateNorms(static_cast<const uint16_t*>(source.k) + at, head_dim, n, scores);
}

void KeyDirections(const KvSource& source, int32_t begin, int32_t n, float* inverse, float* sum) {
  const size_t head_dim = static_cast<size_t>(source.head_dim);
  const size_t at = static_cast<size_t>(begin) * head_dim;
  if (source.dtype == DType::kF32) {
    return SumDirections(static_cast<const float*>(source.k) + at, head_dim, n, inverse, sum);
  }
  SumDirections(static_cast<const uint16_t*>(source.k) + at, head_dim, n, inverse, sum);
}

void KeyCosines(const KvSource& source, int32_t begin, int32_t n, const float* anchor, float* scores) {
  const size_t head_dim = static_cast<size_t>(source.head_dim);
  const size_t at = static_cast<size_t>(begin) * head_dim;
  if (source.dtype == DType::kF32) {
    return NegateCosines(static_cast<const float*>(source.k) + at, head_dim, n, anchor, scores);
  }
  NegateCosines(static_cast<const uint16_t*>(source.k) + at, head_dim, n, anchor, scores);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(KeyNorms);
HWY_EXPORT(KeyDirections);
HWY_EXPORT(KeyCosines);

namespace {

// Entries of a task; the sums of directions come together in the order of the tasks.
constexpr int32_t kEntriesPerTask = 256;

// What a task of one of these ops works on.
struct KeyRange {
  int32_t kv_head = 0;
  int32_t begin = 0;
  int32_t n = 0;
  KvSource source;
  float* scores = nullptr;  // Of the range.
};

// body(task, range), tasks of a head one after the other.
void ForRanges(const StagedContext& context, const ScoreMatrix& scores, ThreadPool& pool,
               absl::FunctionRef<void(int64_t task, const KeyRange& range)> body) {
  const int64_t tasks = (context.n_tokens + kEntriesPerTask - 1) / kEntriesPerTask;
  pool.ParallelFor(tasks * context.staging.n_kv_heads, [&](int64_t task, int) {
    KeyRange range = {.kv_head = static_cast<int32_t>(task / tasks),
                      .begin = static_cast<int32_t>(task % tasks) * kEntriesPerTask};
    range.n = std::min(kEntriesPerTask, context.n_tokens - range.begin);
    range.source = StagedSource(context.staging, context.context_row, range.kv_head, /*bf16_products=*/false);
    range.scores =
        scores.data + static_cast<size_t>(range.kv_head) * static_cast<size_t>(context.n_tokens) + range.begin;
    body(task, range);
  });
}

// The mean direction, with a length of 1, to the first of the head's sums. Zeros if there is none.
void MakeAnchor(size_t head_dim, int64_t n_sums, float* sums) {
  const size_t stride = PaddedDim(static_cast<int32_t>(head_dim));
  std::vector<double> total(head_dim, 0.0);
  double squares = 0;
  for (size_t i = 0; i < head_dim; ++i) {
    for (int64_t s = 0; s < n_sums; ++s) total[i] += static_cast<double>(sums[static_cast<size_t>(s) * stride + i]);
    squares += total[i] * total[i];
  }
  const double factor = squares == 0 ? 0 : 1 / std::sqrt(squares);
  for (size_t i = 0; i < head_dim; ++i) sums[i] = static_cast<float>(total[i] * factor);
}

}  // namespace

void ScoreKeyNorm(const ScoreKeyNormArgs& args, OpContext& context) {
  ForRanges(args.context, args.scores, context.pool, [&](int64_t, const KeyRange& range) {
    LUKV_DISPATCH(context, KeyNorms)(range.source, range.begin, range.n, range.scores);
  });
}

void ScoreKeyDiff(const ScoreKeyDiffArgs& args, OpContext& context) {
  const StagingView& staging = args.context.staging;
  const size_t stride = PaddedDim(staging.head_dim);
  const int64_t tasks = (args.context.n_tokens + kEntriesPerTask - 1) / kEntriesPerTask;
  const size_t n_sums = static_cast<size_t>(tasks * staging.n_kv_heads);
  float* sums = reinterpret_cast<float*>(context.Scratch(-1, n_sums * stride * sizeof(float)));
  ForRanges(args.context, args.scores, context.pool, [&](int64_t task, const KeyRange& range) {
    LUKV_DISPATCH(context, KeyDirections)
    (range.source, range.begin, range.n, range.scores, sums + static_cast<size_t>(task) * stride);
  });
  const auto head_sums = [&](int32_t head) { return sums + static_cast<size_t>(head * tasks) * stride; };
  for (int32_t h = 0; h < staging.n_kv_heads; ++h) {
    MakeAnchor(static_cast<size_t>(staging.head_dim), tasks, head_sums(h));
  }
  ForRanges(args.context, args.scores, context.pool, [&](int64_t, const KeyRange& range) {
    LUKV_DISPATCH(context, KeyCosines)
    (range.source, range.begin, range.n, head_sums(range.kv_head), range.scores);
  });
}

}  // namespace lukv::cpu
#endif
