#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/kv_source.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/score_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/score_expected_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/score_tiles-inl.h"

#ifndef LUKV_KERNELS_CPU_EXPECTED_ATTENTION_TYPES
#define LUKV_KERNELS_CPU_EXPECTED_ATTENTION_TYPES
namespace lukv::cpu {

// What a query head makes of a key k, to the base 2: sum over i of k[i] * (linear[i] + sum over j >= i of
// form[i][j] * k[j]).
struct ExpectedLogit {
  float* linear = nullptr;  // [head_dim]
  float* form = nullptr;    // [head_dim, head_dim], from the diagonal on
};

// One op at work. Entries are those that are scored: from n_first on.
struct ExpectedAttention {
  int32_t entries = 0;
  int32_t group = 0;
  int32_t head_dim = 0;
  std::vector<ExpectedLogit> heads;
  float* weights = nullptr;  // [tiles, n_heads, kTileEntries]
  TileSoftmax softmax;       // Row h is query head h.
};

}  // namespace lukv::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// logits[e] += sum over kRows rows i of keys[i][e] * (linear[i] + sum over j >= i of form[i][j] * keys[j][e]), for
// kVectorsAtOnce vectors of entries.
template <int kRows>
HWY_INLINE void AddRows(const ExpectedLogit& head, const float* HWY_RESTRICT keys, int32_t first, int32_t head_dim,
                        float* HWY_RESTRICT logits) {
  const FloatTag d;
  const float* form = head.form + static_cast<size_t>(first) * static_cast<size_t>(head_dim);
  FloatVec sums[kRows][kVectorsAtOnce];
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    LUKV_UNROLL
    for (int v = 0; v < kVectorsAtOnce; ++v) sums[r][v] = hn::Set(d, head.linear[first + r]);
  }
  const float* row = keys + static_cast<size_t>(first) * kTileEntries;
  // Down to the diagonal.
  LUKV_UNROLL
  for (int j = 0; j < kRows; ++j, row += kTileEntries) {
    LUKV_UNROLL
    for (int v = 0; v < kVectorsAtOnce; ++v) {
      const FloatVec column = hn::Load(d, row + static_cast<size_t>(v) * kLanes);
      LUKV_UNROLL
      for (int r = 0; r <= j; ++r) {
        sums[r][v] = hn::MulAdd(hn::Set(d, form[r * head_dim + first + j]), column, sums[r][v]);
      }
    }
  }
  for (int32_t j = first + kRows; j < head_dim; ++j, row += kTileEntries) {
    FloatVec column[kVectorsAtOnce];
    LUKV_UNROLL
    for (int v = 0; v < kVectorsAtOnce; ++v) column[v] = hn::Load(d, row + static_cast<size_t>(v) * kLanes);
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const FloatVec factor = hn::Set(d, form[r * head_dim + j]);
      LUKV_UNROLL
      for (int v = 0; v < kVectorsAtOnce; ++v) sums[r][v] = hn::MulAdd(factor, column[v], sums[r][v]);
    }
  }
  LUKV_UNROLL
  for (int v = 0; v < kVectorsAtOnce; ++v) {
    float* to = logits + static_cast<size_t>(v) * kLanes;
    FloatVec logit = hn::Load(d, to);
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float* key = keys + static_cast<size_t>(first + r) * kTileEntries + static_cast<size_t>(v) * kLanes;
      logit = hn::MulAdd(hn::Load(d, key), sums[r][v], logit);
    }
    hn::Store(logit, d, to);
  }
}

// All entries of a tile. head_dim is even.
HWY_INLINE void ExpectedLogits(const ExpectedLogit& head, const float* keys, int32_t head_dim, float* logits) {
  constexpr int32_t kStep = kVectorsAtOnce * static_cast<int32_t>(kLanes);
  std::fill_n(logits, kTileEntries, 0.0f);
  for (int32_t e = 0; e < kTileEntries; e += kStep) {
    int32_t i = 0;
    for (; i + 6 <= head_dim; i += 6) AddRows<6>(head, keys + e, i, head_dim, logits + e);
    if (head_dim - i == 4) AddRows<4>(head, keys + e, i, head_dim, logits + e);
    if (head_dim - i == 2) AddRows<2>(head, keys + e, i, head_dim, logits + e);
  }
}

// Logits and weights of the query heads of one kv head in tiles [begin, end). scratch: [head_dim, kTileEntries]
void WeighEntries(const ExpectedAttention& work, const KvSource& source, int32_t first_head, int64_t begin, int64_t end,
                  float* scratch) {
  const size_t n_heads = work.heads.size();
  for (int64_t t = begin; t < end; ++t) {
    const int32_t first = static_cast<int32_t>(t) * kTileEntries;
    const int32_t n = std::min(kTileEntries, work.entries - first);
    LoadKeys(source, first, work.entries, scratch);
    for (int32_t g = 0; g < work.group; ++g) {
      const size_t h = static_cast<size_t>(first_head + g);
      float* weights = work.weights + (static_cast<size_t>(t) * n_heads + h) * kTileEntries;
      ExpectedLogits(work.heads[h], scratch, work.head_dim, weights);
      const size_t at = static_cast<size_t>(t) * work.softmax.stride + h;
      WeighTile(n, weights, work.softmax.max + at, work.softmax.sum + at);
    }
  }
}

void FinishExpected(const TileSoftmax& softmax) { FinishRows(softmax); }

// (mean weight over the group + epsilon) * |v| of tiles [begin, end) of one kv head; returns the greatest.
float ScoreEntries(const ExpectedAttention& work, const KvSource& source, int32_t first_head, int64_t begin,
                   int64_t end, float epsilon, float* scores) {
  const FloatTag d;
  const size_t n_heads = work.heads.size();
  const size_t head_dim = static_cast<size_t>(work.head_dim);
  const FloatVec share = hn::Set(d, 1.0f / static_cast<float>(work.group));
  float greatest = 0;
  for (int64_t t = begin; t < end; ++t) {
    const int32_t first = static_cast<int32_t>(t) * kTileEntries;
    const int32_t n = std::min(kTileEntries, work.entries - first);
    HWY_ALIGN float means[kTileEntries];
    for (size_t e = 0; e < kTileEntries; e += kLanes) {
      FloatVec sum = hn::Zero(d);
      for (int32_t g = 0; g < work.group; ++g) {
        const size_t h = static_cast<size_t>(first_head + g);
        const FloatVec factor = hn::Set(d, work.softmax.sum[static_cast<size_t>(t) * work.softmax.stride + h]);
        sum = hn::MulAdd(hn::Load(d, work.weights + (static_cast<size_t>(t) * n_heads + h) * kTileEntries + e), factor,
                         sum);
      }
      hn::Store(hn::Add(hn::Mul(sum, share), hn::Set(d, epsilon)), d, means + e);
    }
    for (int32_t i = 0; i < n; ++i) {
      const size_t row = static_cast<size_t>(first + i) * head_dim;
      const float squares = source.dtype == DType::kF32
                                ? SumOfSquares(static_cast<const float*>(source.v) + row, head_dim)
                                : SumOfSquares(static_cast<const uint16_t*>(source.v) + row, head_dim);
      const float score = means[i] * std::sqrt(squares);
      scores[first + i] = score;
      greatest = std::max(greatest, score);
    }
  }
  return greatest;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(WeighEntries);
HWY_EXPORT(FinishExpected);
HWY_EXPORT(ScoreEntries);

namespace {

// A rotation times a factor: (a, b) becomes (cosine a - sine b, sine a + cosine b).
struct Turn {
  double cosine = 1;
  double sine = 0;
};

// Mean over the n positions p from `first` on of the rotation by p * frequency, from the sum of the geometric series
// e^(i p frequency): a rotation by the mean angle, shrunk.
Turn MeanTurn(double frequency, double first, double n) {
  const double half = frequency / 2;
  const double shrunk = std::sin(half) == 0 ? 1 : std::sin(n * half) / (n * std::sin(half));
  const double angle = (first + (n - 1) / 2) * frequency;
  return {shrunk * std::cos(angle), shrunk * std::sin(angle)};
}

std::vector<Turn> MeanTurns(const ScoreExpectedAttentionArgs& args) {
  std::vector<Turn> turns(static_cast<size_t>(args.context.staging.head_dim) / 2);
  for (size_t i = 0; i < turns.size(); ++i) {
    turns[i] = MeanTurn(static_cast<double>(args.inverse_frequency[i]), static_cast<double>(Value(args.next_position)),
                        static_cast<double>(args.n_future));
    turns[i].cosine *= static_cast<double>(args.rope_magnitude);
    turns[i].sine *= static_cast<double>(args.rope_magnitude);
  }
  return turns;
}

// Mean and covariance of a head's queries.
class HeadMoments {
 public:
  HeadMoments(const ScoreExpectedAttentionArgs& args, int32_t head)
      : n_(static_cast<size_t>(args.context.staging.head_dim)),
        share_(1.0 / static_cast<double>(args.count)),
        pivot_(args.moments.pivot + static_cast<size_t>(head) * n_),
        products_(args.moments.products + static_cast<size_t>(head) * n_ * n_),
        offset_(n_) {
    const float* sum = args.moments.sum + static_cast<size_t>(head) * n_;
    for (size_t i = 0; i < n_; ++i) offset_[i] = static_cast<double>(sum[i]) * share_;
  }

  double Mean(size_t i) const { return static_cast<double>(pivot_[i]) + offset_[i]; }
  double Covariance(size_t i, size_t j) const {
    const float products = i <= j ? products_[i * n_ + j] : products_[j * n_ + i];
    return static_cast<double>(products) * share_ - offset_[i] * offset_[j];
  }

 private:
  const size_t n_;
  const double share_;  // Of one query.
  const float* const pivot_;
  const float* const products_;
  std::vector<double> offset_;  // Of the mean from the pivot.
};

// scale * k.m + scale^2 / 2 * k'Sk, to the base 2, as an ExpectedLogit; m and S are the head's moments, turned.
void FillLogit(const ScoreExpectedAttentionArgs& args, const std::vector<Turn>& turns, int32_t head,
               const ExpectedLogit& logit) {
  const HeadMoments moments(args, head);
  const size_t n = 2 * turns.size();
  const bool half_split = args.layout == RopeLayout::kHalfSplit;
  const auto first_of = [&](size_t pair) { return half_split ? pair : 2 * pair; };
  const auto second_of = [&](size_t pair) { return half_split ? pair + n / 2 : 2 * pair + 1; };
  const double linear_factor = static_cast<double>(args.scale) * static_cast<double>(kLog2E);
  const double form_factor = linear_factor * static_cast<double>(args.scale) / 2;
  // Elements off the diagonal stand for themselves and their mirror image.
  const auto set = [&](size_t i, size_t j, double value) {
    logit.form[std::min(i, j) * n + std::max(i, j)] =
        static_cast<float>(value * (i == j ? form_factor : 2 * form_factor));
  };
  for (size_t p = 0; p < turns.size(); ++p) {
    const Turn& a = turns[p];
    const size_t a1 = first_of(p);
    const size_t a2 = second_of(p);
    const double m1 = moments.Mean(a1);
    const double m2 = moments.Mean(a2);
    logit.linear[a1] = static_cast<float>((a.cosine * m1 - a.sine * m2) * linear_factor);
    logit.linear[a2] = static_cast<float>((a.sine * m1 + a.cosine * m2) * linear_factor);
    for (size_t q = p; q < turns.size(); ++q) {
      const Turn& b = turns[q];
      const size_t b1 = first_of(q);
      const size_t b2 = second_of(q);
      const double c11 = moments.Covariance(a1, b1);
      const double c12 = moments.Covariance(a1, b2);
      const double c21 = moments.Covariance(a2, b1);
      const double c22 = moments.Covariance(a2, b2);
      // Rows turned by a, then columns by b.
      const double r11 = a.cosine * c11 - a.sine * c21;
      const double r12 = a.cosine * c12 - a.sine * c22;
      const double r21 = a.sine * c11 + a.cosine * c21;
      const double r22 = a.sine * c12 + a.cosine * c22;
      set(a1, b1, r11 * b.cosine - r12 * b.sine);
      set(a1, b2, r11 * b.sine + r12 * b.cosine);
      set(a2, b1, r21 * b.cosine - r22 * b.sine);
      set(a2, b2, r21 * b.sine + r22 * b.cosine);
    }
  }
}

}  // namespace

void ScoreExpectedAttention(const ScoreExpectedAttentionArgs& args, OpContext& context) {
  const StagedContext& staged = args.context;
  const int32_t n_kv_heads = staged.staging.n_kv_heads;
  const int32_t n_first = std::min(args.n_first, staged.n_tokens);
  const size_t head_dim = static_cast<size_t>(staged.staging.head_dim);
  ExpectedAttention work = {.entries = staged.n_tokens - n_first,
                            .group = args.n_heads / n_kv_heads,
                            .head_dim = staged.staging.head_dim,
                            .heads = std::vector<ExpectedLogit>(static_cast<size_t>(args.n_heads))};
  const int64_t tiles = CountTiles(work.entries);
  const int64_t tasks = CountTileTasks(tiles);
  const auto take = [&](FloatArena& arena) {
    for (ExpectedLogit& head : work.heads) head = {arena.Take(head_dim), arena.Take(head_dim * head_dim)};
    work.weights = arena.Take(static_cast<size_t>(tiles) * work.heads.size() * kTileEntries);
    work.softmax = TakeSoftmax(arena, tiles, work.heads.size());
  };
  FloatArena count(nullptr);
  take(count);
  FloatArena arena(context.Scratch(-1, count.bytes()));
  take(arena);

  const std::vector<Turn> turns = MeanTurns(args);
  context.pool.ParallelFor(args.n_heads, [&](int64_t head, int) {
    FillLogit(args, turns, static_cast<int32_t>(head), work.heads[static_cast<size_t>(head)]);
  });
  const auto source = [&](int32_t kv_head) {
    return StagedSource(staged.staging, staged.context_row + n_first, kv_head, /*bf16_products=*/false);
  };
  const auto scores = [&](int32_t kv_head) {
    return args.scores.data + static_cast<size_t>(kv_head) * static_cast<size_t>(staged.n_tokens);
  };
  context.pool.ParallelFor(tasks * n_kv_heads, [&](int64_t task, int thread) {
    const int32_t kv_head = static_cast<int32_t>(task / tasks);
    const int64_t begin = task % tasks * kTilesPerTask;
    float* keys = reinterpret_cast<float*>(context.Scratch(thread, head_dim * kTileEntries * sizeof(float)));
    LUKV_DISPATCH(context, WeighEntries)
    (work, source(kv_head), kv_head * work.group, begin, std::min(begin + kTilesPerTask, tiles), keys);
  });
  LUKV_DISPATCH(context, FinishExpected)(work.softmax);
  std::vector<float> greatest(static_cast<size_t>(tasks * n_kv_heads) + 1, 0.0f);
  context.pool.ParallelFor(tasks * n_kv_heads, [&](int64_t task, int) {
    const int32_t kv_head = static_cast<int32_t>(task / tasks);
    const int64_t begin = task % tasks * kTilesPerTask;
    greatest[static_cast<size_t>(task)] = LUKV_DISPATCH(context, ScoreEntries)(
        work, source(kv_head), kv_head * work.group, begin, std::min(begin + kTilesPerTask, tiles), args.epsilon,
        scores(kv_head) + n_first);
  });
  const float above = *std::max_element(greatest.begin(), greatest.end()) + 1;
  for (int32_t h = 0; h < n_kv_heads; ++h) std::fill_n(scores(h), n_first, above);
}

}  // namespace lukv::cpu
#endif
