#include <cfloat>

#include "kernels/cuda/angles.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/score_softmax.h"
#include "kernels/cuda/score_tiles.h"

namespace lukv::cuda {

// What a query head makes of a key k, to the base 2: sum over i of k[i] * (linear[i] + sum over j >= i of
// form[j][i] * k[j]). Rows are padded_dim long, a multiple of 4; what is not said to be something is zero.
struct ExpectedLogits {
  float* linear = nullptr;  // [n_heads, padded_dim]
  float* form = nullptr;    // [n_heads, head_dim, padded_dim]
  int32_t padded_dim = 0;
};

// Entries are those that are scored: from n_first on.
struct ExpectedScores {
  float* logits = nullptr;  // [n_heads, entries]
  int32_t entries = 0;
  int32_t group = 0;
  SoftmaxParts tiles;         // Row h is query head h.
  float* max = nullptr;       // [n_heads]
  float* factor = nullptr;    // [n_heads]
  float* greatest = nullptr;  // [blocks of ExpectedScoresKernel]
};

namespace {

constexpr int kFormThreads = 256;
constexpr int kWeighThreads = 128;
constexpr int kWeighWarps = kWeighThreads / kWarp;
constexpr int kScoreThreads = 256;
constexpr int kScoreRows = kScoreThreads / kRowLanes;

// A rotation times a factor: (a, b) becomes (cosine a - sine b, sine a + cosine b).
struct ExpectedTurn {
  double cosine;
  double sine;
};

// Mean over the n positions p from `first` on of the rotation by p * frequency, from the sum of the geometric series
// e^(i p frequency): a rotation by the mean angle, shrunk.
LUKV_DEVICE ExpectedTurn ExpectedMeanTurn(double frequency, double first, double n, double magnitude) {
  double sine;
  double cosine;
  double shrunk = magnitude;
  SinCosOf(frequency / 2, &sine, &cosine);
  if (sine != 0) {
    double sine_of_all;
    SinCosOf(n * frequency / 2, &sine_of_all, &cosine);
    shrunk *= sine_of_all / (n * sine);
  }
  SinCosOf((first + (n - 1) / 2) * frequency, &sine, &cosine);
  return {shrunk * cosine, shrunk * sine};
}

}  // namespace

// A block makes the ExpectedLogits of one head: its moments, turned. In double, as products of large sums cancel out.
__global__ void __launch_bounds__(kFormThreads) ExpectedFormKernel(ScoreExpectedAttentionArgs args, ExpectedLogits to) {
  LUKV_SHARED(ExpectedTurn, turns, kMaxHeadDim / 2);
  LUKV_SHARED(double, offsets, kMaxHeadDim);  // Of the mean from the pivot.
  const int32_t n = args.context.staging.head_dim;
  const int32_t pairs = n / 2;
  const int64_t head = blockIdx.x;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  float* const linear = to.linear + head * to.padded_dim;
  float* const form = to.form + head * n * to.padded_dim;
  const double share = 1.0 / static_cast<double>(args.count);
  for (int32_t i = thread; i < pairs; i += kFormThreads) {
    turns[i] =
        ExpectedMeanTurn(static_cast<double>(args.inverse_frequency[i]), static_cast<double>(Value(args.next_position)),
                         static_cast<double>(args.n_future), static_cast<double>(args.rope_magnitude));
  }
  for (int32_t i = thread; i < n; i += kFormThreads) {
    offsets[i] = static_cast<double>(args.moments.sum[head * n + i]) * share;
  }
  for (int32_t i = thread; i < to.padded_dim; i += kFormThreads) linear[i] = 0;
  for (int32_t i = thread; i < n * to.padded_dim; i += kFormThreads) form[i] = 0;
  __syncthreads();

  const float* const pivot = args.moments.pivot + head * n;
  const float* const products = args.moments.products + head * n * n;
  const bool half_split = args.layout == RopeLayout::kHalfSplit;
  const double linear_factor = static_cast<double>(args.scale) * static_cast<double>(kLog2E);
  const double form_factor = linear_factor * static_cast<double>(args.scale) / 2;
  const auto covariance = [&](int32_t i, int32_t j) {
    return static_cast<double>(products[min(i, j) * n + max(i, j)]) * share - offsets[i] * offsets[j];
  };
  // Elements off the diagonal stand for themselves and their mirror image.
  const auto set = [&](int32_t i, int32_t j, double value) {
    form[max(i, j) * to.padded_dim + min(i, j)] = static_cast<float>(value * (i == j ? form_factor : 2 * form_factor));
  };
  for (int32_t t = thread; t < pairs * pairs; t += kFormThreads) {
    const int32_t p = t / pairs;
    const int32_t q = t % pairs;
    if (q < p) continue;
    const ExpectedTurn a = turns[p];
    const ExpectedTurn b = turns[q];
    const int32_t a1 = half_split ? p : 2 * p;
    const int32_t a2 = half_split ? p + pairs : 2 * p + 1;
    const int32_t b1 = half_split ? q : 2 * q;
    const int32_t b2 = half_split ? q + pairs : 2 * q + 1;
    if (p == q) {
      const double m1 = static_cast<double>(pivot[a1]) + offsets[a1];
      const double m2 = static_cast<double>(pivot[a2]) + offsets[a2];
      linear[a1] = static_cast<float>((a.cosine * m1 - a.sine * m2) * linear_factor);
      linear[a2] = static_cast<float>((a.sine * m1 + a.cosine * m2) * linear_factor);
    }
    // Rows turned by a, then columns by b.
    const double c11 = covariance(a1, b1);
    const double c12 = covariance(a1, b2);
    const double c21 = covariance(a2, b1);
    const double c22 = covariance(a2, b2);
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

namespace {

constexpr int kRowGroup = 4;     // Rows i of the form that a thread has at once.
constexpr int kEntryGroups = 8;  // Of the lanes of a warp: a thread has entries 4 g .. 4 g + 3 and those 32 further.
constexpr int kThreadEntries = kTileEntries / kEntryGroups;
constexpr int kPairThreads = kWeighThreads / kEntryGroups;

using ExpectedSums = float[kRowGroup][kThreadEntries];

LUKV_DEVICE void ExpectedLoadKeys(const float* keys, int32_t j, float (&k)[kThreadEntries]) {
  float low[4];
  float high[4];
  LoadVector(keys + j * kTileEntries, low);
  LoadVector(keys + j * kTileEntries + kTileEntries / 2, high);
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    k[e] = low[e];
    k[4 + e] = high[e];
  }
}

LUKV_DEVICE void ExpectedAdd(const float* form, const float (&k)[kThreadEntries], ExpectedSums& sums) {
  float row[kRowGroup];
  LoadVector(form, row);
#pragma unroll
  for (int r = 0; r < kRowGroup; ++r) {
#pragma unroll
    for (int e = 0; e < kThreadEntries; ++e) sums[r][e] = fmaf(row[r], k[e], sums[r][e]);
  }
}

// logits[e] += sum over the rows r from first_row on of keys[r][e] * (linear[r] + sums[r][e])
LUKV_DEVICE void ExpectedFinish(const float* linear, const float* keys, int32_t first_row, const ExpectedSums& sums,
                                float (&logits)[kThreadEntries]) {
  float constant[kRowGroup];
  LoadVector(linear + first_row, constant);
#pragma unroll
  for (int r = 0; r < kRowGroup; ++r) {
    float k[kThreadEntries];
    ExpectedLoadKeys(keys, first_row + r, k);
#pragma unroll
    for (int e = 0; e < kThreadEntries; ++e) logits[e] = fmaf(k[e], constant[r] + sums[r][e], logits[e]);
  }
}

// A thread's part of the logits of its entries. Groups of rows come in pairs, one from the front and one from the back:
// of a triangle all pairs are the same work. The lanes of a warp go over the same j, which are those that the lowest of
// its pairs needs: above the diagonal the form is zero.
LUKV_DEVICE void ExpectedPairs(const ExpectedLogits& head, const float* keys, int32_t head_dim,
                               float (&logits)[kThreadEntries]) {
  const int32_t groups = head.padded_dim / kRowGroup;
  const int32_t pairs = (groups + 1) / 2;
  const int32_t warp_pair = static_cast<int32_t>(threadIdx.x) / kWarp * (kWarp / kEntryGroups);
#pragma unroll
  for (int e = 0; e < kThreadEntries; ++e) logits[e] = 0;
  for (int32_t pair = static_cast<int32_t>(threadIdx.x) / kEntryGroups, lowest = warp_pair; pair < pairs;
       pair += kPairThreads, lowest += kPairThreads) {
    const int32_t front = pair * kRowGroup;
    const int32_t back = (groups - 1 - pair) * kRowGroup;
    // The group in the middle is its own partner.
    const bool has_back = back > front;
    // The back groups of the warp's other pairs begin earlier.
    const int32_t last = min(lowest + kWarp / kEntryGroups, pairs) - 1;
    const int32_t from_back = (groups - 1 - last) * kRowGroup;
    ExpectedSums front_sums = {};
    ExpectedSums back_sums = {};
    float k[kThreadEntries];
    int32_t j = lowest * kRowGroup;
    for (; j < min(from_back, head_dim); ++j) {
      ExpectedLoadKeys(keys, j, k);
      ExpectedAdd(head.form + j * head.padded_dim + front, k, front_sums);
    }
    for (; j < head_dim; ++j) {
      ExpectedLoadKeys(keys, j, k);
      ExpectedAdd(head.form + j * head.padded_dim + front, k, front_sums);
      ExpectedAdd(head.form + j * head.padded_dim + back, k, back_sums);
    }
    ExpectedFinish(head.linear, keys, front, front_sums, logits);
    if (has_back) ExpectedFinish(head.linear, keys, back, back_sums, logits);
  }
}

}  // namespace

// A block makes the logits of a tile's entries and of the query heads of one kv head, and their statistics.
template <typename T>
__global__ void __launch_bounds__(kWeighThreads, 3)
    ExpectedLogitsKernel(ScoreExpectedAttentionArgs args, ExpectedLogits logits_of, ExpectedScores work,
                         int32_t n_first, bool vectors) {
  LUKV_DYNAMIC_SHARED(float, keys);  // [padded_dim, kTileEntries]
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y);
  const int32_t head_dim = args.context.staging.head_dim;
  const int32_t padded_dim = logits_of.padded_dim;
  float* const partial = keys + padded_dim * kTileEntries;  // [kWeighWarps, kTileEntries]
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kTileEntries;
  const int32_t n = min(kTileEntries, work.entries - first);
  const T* const rows =
      StagedRow<T>(args.context, args.context.staging.k, kv_head) + static_cast<int64_t>(n_first + first) * head_dim;
  LoadTransposed<kTileEntries, kWeighThreads>(rows, head_dim, n, head_dim, padded_dim, vectors, 1.0f, keys);
  const int32_t group_entry = Lane() % kEntryGroups * 4;
  for (int32_t g = 0; g < work.group; ++g) {
    const int64_t head = static_cast<int64_t>(kv_head) * work.group + g;
    ExpectedLogits mine = logits_of;
    mine.linear += head * padded_dim;
    mine.form += head * head_dim * padded_dim;
    __syncthreads();
    float logits[kThreadEntries];
    ExpectedPairs(mine, keys + group_entry, head_dim, logits);
#pragma unroll
    for (int e = 0; e < kThreadEntries; ++e) {
#pragma unroll
      for (int offset = kEntryGroups; offset < kWarp; offset *= 2) {
        logits[e] += __shfl_xor_sync(kFullWarp, logits[e], offset);
      }
      if (Lane() < kEntryGroups) {
        partial[Warp() * kTileEntries + group_entry + e % 4 + e / 4 * (kTileEntries / 2)] = logits[e];
      }
    }
    __syncthreads();
    if (Warp() != 0) continue;
    // The first warp has two entries per lane.
    float sums[2] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int32_t e = Lane() + i * kWarp;
      for (int w = 0; w < kWeighWarps; ++w) sums[i] += partial[w * kTileEntries + e];
      if (e < n) {
        work.logits[head * work.entries + first + e] = sums[i];
      } else {
        sums[i] = -INFINITY;
      }
    }
    const float most = WarpMax(fmaxf(fmaxf(sums[0], sums[1]), -FLT_MAX));
    const float weight = WarpSum(exp2f(sums[0] - most) + exp2f(sums[1] - most));
    if (Lane() == 0) {
      const int64_t at = static_cast<int64_t>(blockIdx.x) * work.tiles.rows + head;
      work.tiles.max[at] = most;
      work.tiles.sum[at] = weight;
    }
  }
}

// scores = (mean weight over the group + epsilon) * |v|.
template <typename T>
__global__ void __launch_bounds__(kScoreThreads)
    ExpectedScoresKernel(ScoreExpectedAttentionArgs args, ExpectedScores work, int32_t n_first, bool vectors) {
  LUKV_SHARED(float, warps, kScoreThreads / kWarp);
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y);
  const int32_t head_dim = args.context.staging.head_dim;
  const int32_t entry = static_cast<int32_t>(blockIdx.x) * kScoreRows + static_cast<int32_t>(threadIdx.x) / kRowLanes;
  const T* const values = StagedRow<T>(args.context, args.context.staging.v, kv_head);
  float v[kRowShare] = {};
  if (entry < work.entries) {
    LoadRowShare(values + static_cast<int64_t>(n_first + entry) * head_dim, head_dim, vectors, v);
  }
  const float norm = sqrtf(RowDot(v, v));
  float score = 0;
  if (entry < work.entries && threadIdx.x % kRowLanes == 0) {
    float sum = 0;
    for (int32_t g = 0; g < work.group; ++g) {
      const int64_t head = static_cast<int64_t>(kv_head) * work.group + g;
      sum = fmaf(exp2f(work.logits[head * work.entries + entry] - work.max[head]), work.factor[head], sum);
    }
    score = (sum / static_cast<float>(work.group) + args.epsilon) * norm;
    args.scores.data[static_cast<int64_t>(kv_head) * args.context.n_tokens + n_first + entry] = score;
  }
  score = WarpMax(score);
  if (Lane() == 0) warps[Warp()] = score;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 0; w < kScoreThreads / kWarp; ++w) score = fmaxf(score, warps[w]);
  work.greatest[static_cast<int64_t>(kv_head) * gridDim.x + blockIdx.x] = score;
}

cudaError_t ScoreExpectedAttention(const ScoreExpectedAttentionArgs& args, const OpContext& context) {
  const StagingView& staging = args.context.staging;
  const int32_t n_tokens = args.context.n_tokens;
  const int32_t n_first = args.n_first < n_tokens ? args.n_first : n_tokens;
  const int64_t n_heads = args.n_heads;
  const unsigned kv_heads = static_cast<unsigned>(staging.n_kv_heads);
  ExpectedLogits logits;
  logits.padded_dim = (staging.head_dim + kRowGroup - 1) / kRowGroup * kRowGroup;
  ExpectedScores work;
  work.entries = n_tokens - n_first;
  work.group = args.n_heads / staging.n_kv_heads;
  work.tiles.parts = static_cast<int32_t>(Blocks(work.entries, kTileEntries));
  work.tiles.rows = args.n_heads;
  const dim3 score_grid(Blocks(work.entries, kScoreRows), kv_heads);
  const int64_t n_greatest = static_cast<int64_t>(score_grid.x) * score_grid.y;
  const auto take = [&](FloatMemory memory) {
    logits.linear = memory.Take(n_heads * logits.padded_dim);
    logits.form = memory.Take(n_heads * staging.head_dim * logits.padded_dim);
    work.logits = memory.Take(n_heads * work.entries);
    work.tiles.max = memory.Take(work.tiles.parts * n_heads);
    work.tiles.sum = memory.Take(work.tiles.parts * n_heads);
    work.max = memory.Take(n_heads);
    work.factor = memory.Take(n_heads);
    work.greatest = memory.Take(n_greatest);
    return memory.bytes();
  };
  void* memory = nullptr;
  LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(take(FloatMemory(nullptr)), &memory));
  take(FloatMemory(memory));

  if (work.entries > 0) {
    const bool vectors = StagedVectors(staging);
    const size_t shared = static_cast<size_t>((logits.padded_dim + kWeighWarps) * kTileEntries) * sizeof(float);
    const dim3 tile_grid(static_cast<unsigned>(work.tiles.parts), kv_heads);
    LUKV_CUDA_RETURN_IF_ERROR(
        Launch(context.stream, &ExpectedFormKernel, static_cast<unsigned>(n_heads), kFormThreads, 0, args, logits));
    const cudaError_t error = DispatchFloat(staging.dtype, [&]<typename T>() -> cudaError_t {
      LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &ExpectedLogitsKernel<T>, tile_grid, kWeighThreads, shared, args,
                                       logits, work, n_first, vectors));
      LUKV_CUDA_RETURN_IF_ERROR(MergeSoftmax(work.tiles, work.max, work.factor, context));
      return Launch(context.stream, &ExpectedScoresKernel<T>, score_grid, kScoreThreads, 0, args, work, n_first,
                    vectors);
    });
    if (error != cudaSuccess) return error;
  }
  return n_first == 0 ? cudaSuccess : FillProtected(args.scores, 0, n_first, work.greatest, n_greatest, context);
}

}  // namespace lukv::cuda
