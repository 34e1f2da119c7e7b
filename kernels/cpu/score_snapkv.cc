#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/cpu/kv_source.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/score_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/score_snapkv.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/score_tiles-inl.h"

#ifndef LUKV_KERNELS_CPU_SNAPKV_TYPES
#define LUKV_KERNELS_CPU_SNAPKV_TYPES
namespace lukv::cpu {

// The query heads of some kv heads at work. Row (h * group + g) * window + w is query w of query head g of the h-th of
// these kv heads.
struct SnapKv {
  int32_t first_kv_head = 0;
  int32_t n_kv_heads = 0;
  int32_t group = 0;
  int32_t window = 0;
  int32_t n_tokens = 0;
  int32_t n_before = 0;      // Tokens before the window: those that are scored.
  int32_t reach = 0;         // Of pooling, to either side.
  float pool_share = 0;      // What the pooled means of a group are multiplied by.
  float* q = nullptr;        // [rows, PaddedDim], with the scale of the logits in it
  float* weights = nullptr;  // [tiles, rows, kTileEntries]
  TileSoftmax softmax;       // Of the rows.
  float* means = nullptr;  // [n_kv_heads * group, mean_stride]; entry e at reach + e, padding on both sides of n_before
  size_t mean_stride = 0;

  int32_t rows_per_head() const { return group * window; }
  size_t rows() const { return static_cast<size_t>(n_kv_heads) * static_cast<size_t>(rows_per_head()); }
};

}  // namespace lukv::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// Weights of the rows of the h-th kv head in tiles [begin, end). keys: [head_dim, kTileEntries]
void WeighWindow(const SnapKv& work, const KvSource& source, int32_t h, int64_t begin, int64_t end, float* keys) {
  const size_t stride = PaddedDim(source.head_dim);
  const int32_t rows = work.rows_per_head();
  const size_t first_row = static_cast<size_t>(h) * static_cast<size_t>(rows);
  for (int64_t t = begin; t < end; ++t) {
    const int32_t first = static_cast<int32_t>(t) * kTileEntries;
    LoadKeys(source, first, work.n_tokens, keys);
    float* weights = work.weights + (static_cast<size_t>(t) * work.rows() + first_row) * kTileEntries;
    MultiplyRows(work.q + first_row * stride, stride, rows, keys, source.head_dim, weights);
    const size_t at = static_cast<size_t>(t) * work.softmax.stride + first_row;
    for (int32_t r = 0; r < rows; ++r) {
      // The window's queries see each other causally.
      const int32_t seen = std::clamp(work.n_before + r % work.window + 1 - first, 0, kTileEntries);
      const size_t row = static_cast<size_t>(r);
      WeighTile(seen, weights + row * kTileEntries, work.softmax.max + at + row, work.softmax.sum + at + row);
    }
  }
}

void FinishWindow(const TileSoftmax& softmax) { FinishRows(softmax); }

// Mean weight over the queries of each query head in tiles [begin, end).
void MeanOverQueries(const SnapKv& work, int32_t head, int64_t begin, int64_t end) {
  const FloatTag d;
  const size_t window = static_cast<size_t>(work.window);
  const size_t first_row = static_cast<size_t>(head) * window;
  const FloatVec share = hn::Set(d, 1.0f / static_cast<float>(work.window));
  float* means = work.means + static_cast<size_t>(head) * work.mean_stride + work.reach;
  for (int64_t t = begin; t < end; ++t) {
    const int32_t first = static_cast<int32_t>(t) * kTileEntries;
    const float* weights = work.weights + (static_cast<size_t>(t) * work.rows() + first_row) * kTileEntries;
    const float* factor = work.softmax.sum + static_cast<size_t>(t) * work.softmax.stride + first_row;
    HWY_ALIGN float mean[kTileEntries];
    for (size_t e = 0; e < kTileEntries; e += kLanes) {
      FloatVec sum = hn::Zero(d);
      for (size_t w = 0; w < window; ++w) {
        sum = hn::MulAdd(hn::Load(d, weights + w * kTileEntries + e), hn::Set(d, factor[w]), sum);
      }
      hn::Store(hn::Mul(sum, share), d, mean + e);
    }
    std::copy_n(mean, std::clamp(work.n_before - first, 0, kTileEntries), means + first);
  }
}

// Pools the means of one kv head's query heads and takes their mean, entries [begin, end); returns the greatest.
template <bool kMax>
HWY_INLINE float PoolEntries(const SnapKv& work, int32_t h, int32_t begin, int32_t end, float* scores) {
  const FloatTag d;
  const int32_t kernel = 2 * work.reach + 1;
  const FloatVec share = hn::Set(d, work.pool_share);
  FloatVec greatest = hn::Zero(d);
  for (int32_t e = begin; e < end; e += static_cast<int32_t>(kLanes)) {
    FloatVec sum = hn::Zero(d);
    for (int32_t g = 0; g < work.group; ++g) {
      const float* means = work.means + static_cast<size_t>(h * work.group + g) * work.mean_stride + e;
      FloatVec pooled = hn::LoadU(d, means);
      for (int32_t i = 1; i < kernel; ++i) {
        const FloatVec next = hn::LoadU(d, means + i);
        pooled = kMax ? hn::Max(next, pooled) : hn::Add(pooled, next);
      }
      sum = hn::Add(sum, pooled);
    }
    sum = hn::Mul(sum, share);
    const size_t n = std::min(kLanes, static_cast<size_t>(end - e));
    sum = hn::IfThenElseZero(hn::FirstN(d, n), sum);
    greatest = hn::Max(sum, greatest);
    hn::BlendedStore(sum, hn::FirstN(d, n), d, scores + e);
  }
  return hn::GetLane(hn::MaxOfLanes(d, greatest));
}

float PoolMax(const SnapKv& work, int32_t h, int32_t begin, int32_t end, float* scores) {
  return PoolEntries<true>(work, h, begin, end, scores);
}
float PoolSum(const SnapKv& work, int32_t h, int32_t begin, int32_t end, float* scores) {
  return PoolEntries<false>(work, h, begin, end, scores);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(WeighWindow);
HWY_EXPORT(FinishWindow);
HWY_EXPORT(MeanOverQueries);
HWY_EXPORT(PoolMax);
HWY_EXPORT(PoolSum);

namespace {

// Memory for the weights is bounded where there are several kv heads to take one after the other, and small enough for
// the caches to help.
constexpr size_t kWeightBytes = size_t{4} << 20;

// The buffers of `n_kv_heads` kv heads, then the rows of their queries.
void Take(FloatArena& arena, int64_t tiles, int32_t head_dim, SnapKv& work) {
  work.mean_stride = static_cast<size_t>(work.n_before) + 2 * static_cast<size_t>(work.reach) + kMaxLanes;
  work.q = arena.Take(work.rows() * PaddedDim(head_dim));
  work.weights = arena.Take(static_cast<size_t>(tiles) * work.rows() * kTileEntries);
  work.softmax = TakeSoftmax(arena, tiles, work.rows());
  work.means = arena.Take(static_cast<size_t>(work.n_kv_heads * work.group) * work.mean_stride);
}

void LoadWindow(const ScoreSnapKvArgs& args, const SnapKv& work) {
  const size_t head_dim = static_cast<size_t>(args.context.staging.head_dim);
  const float scale = args.scale * kLog2E;
  float* to = work.q;
  for (int32_t h = 0; h < work.n_kv_heads * work.group; ++h) {
    const size_t column = static_cast<size_t>(work.first_kv_head * work.group + h) * head_dim;
    for (int32_t w = 0; w < work.window; ++w, to += PaddedDim(args.context.staging.head_dim)) {
      const float* from = args.window_q.row<float>(w) + column;
      for (size_t i = 0; i < head_dim; ++i) to[i] = from[i] * scale;
    }
  }
}

// Scores of the entries before the window for the kv heads of `work`; returns the greatest.
float ScoreHeads(const ScoreSnapKvArgs& args, const SnapKv& work, OpContext& context) {
  const StagedContext& staged = args.context;
  const int64_t tiles = work.softmax.tiles;
  const int64_t tasks = CountTileTasks(tiles);
  const size_t key_bytes = static_cast<size_t>(staged.staging.head_dim) * kTileEntries * sizeof(float);
  LoadWindow(args, work);
  context.pool.ParallelFor(tasks * work.n_kv_heads, [&](int64_t task, int thread) {
    const int32_t h = static_cast<int32_t>(task / tasks);
    const int64_t begin = task % tasks * kTilesPerTask;
    const KvSource source =
        StagedSource(staged.staging, staged.context_row, work.first_kv_head + h, /*bf16_products=*/false);
    LUKV_DISPATCH(context, WeighWindow)
    (work, source, h, begin, std::min(begin + kTilesPerTask, tiles),
     reinterpret_cast<float*>(context.Scratch(thread, key_bytes)));
  });
  LUKV_DISPATCH(context, FinishWindow)(work.softmax);

  const int64_t tiles_before = CountTiles(work.n_before);
  const int64_t tasks_before = CountTileTasks(tiles_before);
  const float padding = args.pooling == Pooling::kMax ? -std::numeric_limits<float>::infinity() : 0.0f;
  context.pool.ParallelFor(tasks_before * work.n_kv_heads * work.group, [&](int64_t task, int) {
    const int32_t head = static_cast<int32_t>(task / tasks_before);
    const int64_t begin = task % tasks_before * kTilesPerTask;
    if (begin == 0) {
      float* means = work.means + static_cast<size_t>(head) * work.mean_stride;
      std::fill_n(means, work.reach, padding);
      std::fill(means + work.reach + work.n_before, means + work.mean_stride, padding);
    }
    LUKV_DISPATCH(context, MeanOverQueries)(work, head, begin, std::min(begin + kTilesPerTask, tiles_before));
  });
  std::vector<float> greatest(static_cast<size_t>(tasks_before * work.n_kv_heads) + 1, 0.0f);
  context.pool.ParallelFor(tasks_before * work.n_kv_heads, [&](int64_t task, int) {
    constexpr int32_t kEntries = static_cast<int32_t>(kTilesPerTask) * kTileEntries;
    const int32_t h = static_cast<int32_t>(task / tasks_before);
    const int32_t begin = static_cast<int32_t>(task % tasks_before) * kEntries;
    const int32_t end = std::min(begin + kEntries, work.n_before);
    float* scores = args.scores.data + static_cast<size_t>(work.first_kv_head + h) * static_cast<size_t>(work.n_tokens);
    greatest[static_cast<size_t>(task)] = args.pooling == Pooling::kMax
                                              ? LUKV_DISPATCH(context, PoolMax)(work, h, begin, end, scores)
                                              : LUKV_DISPATCH(context, PoolSum)(work, h, begin, end, scores);
  });
  return *std::max_element(greatest.begin(), greatest.end());
}

}  // namespace

void ScoreSnapKv(const ScoreSnapKvArgs& args, OpContext& context) {
  const StagedContext& staged = args.context;
  const int32_t n_kv_heads = staged.staging.n_kv_heads;
  const int32_t window = static_cast<int32_t>(args.window_q.rows);
  const int32_t group = args.n_heads / n_kv_heads;
  const int32_t n_before = staged.n_tokens - window;
  const int64_t tiles = CountTiles(staged.n_tokens);
  SnapKv work = {.n_kv_heads = 1,
                 .group = group,
                 .window = window,
                 .n_tokens = staged.n_tokens,
                 .n_before = n_before,
                 .reach = std::min(args.kernel / 2, n_before),
                 .pool_share = 1.0f / static_cast<float>(group)};
  if (args.pooling == Pooling::kAverage) work.pool_share /= static_cast<float>(args.kernel);
  const size_t head_bytes = static_cast<size_t>(tiles) * work.rows() * kTileEntries * sizeof(float);
  const int32_t at_once =
      std::clamp(static_cast<int32_t>(std::min<size_t>(kWeightBytes / head_bytes, 1 << 16)), 1, n_kv_heads);
  float greatest = 0;
  for (int32_t first = 0; first < n_kv_heads; first += at_once) {
    work.first_kv_head = first;
    work.n_kv_heads = std::min(at_once, n_kv_heads - first);
    FloatArena count(nullptr);
    Take(count, tiles, staged.staging.head_dim, work);
    FloatArena arena(context.Scratch(-1, count.bytes()));
    Take(arena, tiles, staged.staging.head_dim, work);
    greatest = std::max(greatest, ScoreHeads(args, work, context));
  }
  for (int32_t h = 0; h < n_kv_heads; ++h) {
    std::fill_n(args.scores.data + static_cast<size_t>(h) * static_cast<size_t>(staged.n_tokens) + n_before, window,
                greatest + 1);
  }
}

}  // namespace lukv::cpu
#endif
