#include <cfloat>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/score_snapkv.h"
#include "kernels/cuda/score_tiles.h"

namespace lukv::cuda {

namespace {

constexpr int kRows = 32;  // Queries of a head that a block has at once.
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kSide = 4;  // A thread has 4 rows and 4 entries.
constexpr int kEntryThreads = kTileEntries / kSide;
constexpr int kPoolThreads = 256;

using SnapLogits = float[kSide][kSide];

// Where a block's queries and keys lie in shared memory.
struct SnapShared {
  float* keys;     // [head_dim, kTileEntries]
  float* queries;  // [head_dim, kRows], with the scale of the logits in them
  float* partial;  // [kWarps, kTileEntries]
};
LUKV_DEVICE SnapShared SnapSharedOf(float* memory, int32_t head_dim) {
  float* const queries = memory + head_dim * kTileEntries;
  return {memory, queries, queries + head_dim * kRows};
}

LUKV_DEVICE int32_t SnapRow() { return static_cast<int32_t>(threadIdx.x) / kEntryThreads * kSide; }
LUKV_DEVICE int32_t SnapEntry() { return static_cast<int32_t>(threadIdx.x) % kEntryThreads * kSide; }

// Queries first .. first + kRows of a head.
template <typename T>
LUKV_DEVICE void SnapLoadQueries(const ScoreSnapKvArgs& args, int32_t head, int32_t first, bool vectors,
                                 const SnapShared& shared) {
  const int32_t head_dim = args.context.staging.head_dim;
  const T* const rows = args.window_q.row<T>(first) + static_cast<int64_t>(head) * head_dim;
  LoadTransposed<kRows, kThreads>(rows, args.window_q.stride, static_cast<int32_t>(args.window_q.rows) - first,
                                  head_dim, head_dim, vectors, args.scale * kLog2E, shared.queries);
}

template <typename Kv>
LUKV_DEVICE void SnapLoadKeys(const ScoreSnapKvArgs& args, int32_t kv_head, int32_t first, bool vectors,
                              const SnapShared& shared) {
  const int32_t head_dim = args.context.staging.head_dim;
  const Kv* const rows =
      StagedRow<Kv>(args.context, args.context.staging.k, kv_head) + static_cast<int64_t>(first) * head_dim;
  LoadTransposed<kTileEntries, kThreads>(rows, head_dim, args.context.n_tokens - first, head_dim, head_dim, vectors,
                                         1.0f, shared.keys);
}

// This thread's logits, to the base 2.
LUKV_DEVICE void SnapMultiply(const SnapShared& shared, int32_t head_dim, SnapLogits& logits) {
  const float* const keys = shared.keys + SnapEntry();
  const float* const queries = shared.queries + SnapRow();
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
#pragma unroll
    for (int e = 0; e < kSide; ++e) logits[r][e] = 0;
  }
#pragma unroll 4
  for (int32_t d = 0; d < head_dim; ++d) {
    float q[kSide];
    float k[kSide];
    LoadVector(queries + d * kRows, q);
    LoadVector(keys + d * kTileEntries, k);
#pragma unroll
    for (int r = 0; r < kSide; ++r) {
#pragma unroll
      for (int e = 0; e < kSide; ++e) logits[r][e] = fmaf(q[r], k[e], logits[r][e]);
    }
  }
}

// Over the threads that have a row's entries, the same in all of them.
LUKV_DEVICE float SnapRowMax(float value) {
#pragma unroll
  for (int offset = kEntryThreads / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}
LUKV_DEVICE float SnapRowSum(float value) {
#pragma unroll
  for (int offset = kEntryThreads / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

}  // namespace

// Softmax statistics of kRows queries of one query head over a part of the entries (blockIdx.x), tile after tile.
template <typename T, typename Kv>
__global__ void __launch_bounds__(kThreads)
    SnapStatisticsKernel(ScoreSnapKvArgs args, SnapWork work, bool q_vectors, bool k_vectors) {
  LUKV_DYNAMIC_SHARED(float, memory);
  const int32_t head_dim = args.context.staging.head_dim;
  const SnapShared shared = SnapSharedOf(memory, head_dim);
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const int32_t first_query = static_cast<int32_t>(blockIdx.z) * kRows;
  const int32_t begin = static_cast<int32_t>(blockIdx.x) * kSnapPartEntries;
  const int32_t end = min(begin + kSnapPartEntries, work.n_tokens);
  SnapLoadQueries<T>(args, head, first_query, q_vectors, shared);
  float max[kSide];
  float sum[kSide];
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    max[r] = -FLT_MAX;
    sum[r] = 0;
  }
  for (int32_t first = begin; first < end; first += kTileEntries) {
    __syncthreads();  // The keys before are used up.
    SnapLoadKeys<Kv>(args, head / work.group, first, k_vectors, shared);
    __syncthreads();
    SnapLogits logits;
    SnapMultiply(shared, head_dim, logits);
#pragma unroll
    for (int r = 0; r < kSide; ++r) {
      // The window's queries see each other causally.
      const int32_t seen = work.n_before + first_query + SnapRow() + r + 1 - first - SnapEntry();
      float most = max[r];
#pragma unroll
      for (int e = 0; e < kSide; ++e) {
        if (e >= seen) logits[r][e] = -INFINITY;
        most = fmaxf(most, logits[r][e]);
      }
      most = SnapRowMax(most);
      float weight = 0;
#pragma unroll
      for (int e = 0; e < kSide; ++e) weight += exp2f(logits[r][e] - most);
      sum[r] = fmaf(sum[r], exp2f(max[r] - most), SnapRowSum(weight));
      max[r] = most;
    }
  }
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    const int32_t query = first_query + SnapRow() + r;
    if (SnapEntry() != 0 || query >= work.window) continue;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * work.parts.rows + head * work.window + query;
    work.parts.max[at] = max[r];
    work.parts.sum[at] = sum[r];
  }
}

// Mean weights over the queries of one query head of the entries of a tile before the window.
template <typename T, typename Kv>
__global__ void __launch_bounds__(kThreads)
    SnapMeansKernel(ScoreSnapKvArgs args, SnapWork work, bool q_vectors, bool k_vectors) {
  LUKV_DYNAMIC_SHARED(float, memory);
  const int32_t head_dim = args.context.staging.head_dim;
  const SnapShared shared = SnapSharedOf(memory, head_dim);
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kTileEntries;
  SnapLoadKeys<Kv>(args, head / work.group, first, k_vectors, shared);
  float sums[kSide] = {};
  for (int32_t first_query = 0; first_query < work.window; first_query += kRows) {
    __syncthreads();  // The queries before are used up.
    SnapLoadQueries<T>(args, head, first_query, q_vectors, shared);
    __syncthreads();
    SnapLogits logits;
    SnapMultiply(shared, head_dim, logits);
#pragma unroll
    for (int r = 0; r < kSide; ++r) {
      const int32_t query = first_query + SnapRow() + r;
      if (query >= work.window) break;
      const float max = work.max[head * work.window + query];
      const float factor = work.factor[head * work.window + query];
#pragma unroll
      for (int e = 0; e < kSide; ++e) sums[e] = fmaf(exp2f(logits[r][e] - max), factor, sums[e]);
    }
  }
  // Over the row threads of a warp, then over warps.
#pragma unroll
  for (int e = 0; e < kSide; ++e) {
#pragma unroll
    for (int offset = kEntryThreads; offset < kWarp; offset *= 2) {
      sums[e] += __shfl_xor_sync(kFullWarp, sums[e], offset);
    }
    if (Lane() < kEntryThreads) shared.partial[Warp() * kTileEntries + SnapEntry() + e] = sums[e];
  }
  __syncthreads();
  const int32_t entry = static_cast<int32_t>(threadIdx.x);
  if (entry >= min(kTileEntries, work.n_before - first)) return;
  float total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared.partial[w * kTileEntries + entry];
  work.means[static_cast<int64_t>(head) * work.n_before + first + entry] = total / static_cast<float>(work.window);
}

// Pools the means of the query heads of one kv head, and takes their mean.
__global__ void __launch_bounds__(kPoolThreads) SnapPoolKernel(ScoreSnapKvArgs args, SnapWork work) {
  LUKV_SHARED(float, warps, kPoolThreads / kWarp);
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y);
  const int32_t entry = static_cast<int32_t>(blockIdx.x) * kPoolThreads + static_cast<int32_t>(threadIdx.x);
  const bool is_max = args.pooling == Pooling::kMax;
  const int32_t reach = min(args.kernel / 2, work.n_before);  // Whose sum with an entry does not overflow.
  float score = 0;
  if (entry < work.n_before) {
    const int32_t begin = max(0, entry - reach);
    const int32_t end = min(work.n_before, entry + reach + 1);
    for (int32_t g = 0; g < work.group; ++g) {
      const float* const means = work.means + (static_cast<int64_t>(kv_head) * work.group + g) * work.n_before;
      float pooled = means[begin];
      for (int32_t i = begin + 1; i < end; ++i) pooled = is_max ? fmaxf(pooled, means[i]) : pooled + means[i];
      score += pooled;
    }
    score /= static_cast<float>(work.group) * (is_max ? 1.0f : static_cast<float>(args.kernel));
    args.scores.data[static_cast<int64_t>(kv_head) * work.n_tokens + entry] = score;
  }
  score = WarpMax(score);
  if (Lane() == 0) warps[Warp()] = score;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 0; w < kPoolThreads / kWarp; ++w) score = fmaxf(score, warps[w]);
  work.greatest[static_cast<int64_t>(kv_head) * gridDim.x + blockIdx.x] = score;
}

namespace {

// The weights, up to work.means.
cudaError_t WeighWindow(const ScoreSnapKvArgs& args, const SnapWork& work, const OpContext& context) {
  const SnapMmaPlan plan = PlanSnapMma(args, context);
  if (plan.heads > 0) {
    LUKV_CUDA_RETURN_IF_ERROR(SnapStatisticsMma(args, work, plan, context));
    LUKV_CUDA_RETURN_IF_ERROR(MergeSoftmax(work.parts, work.max, work.factor, context));
    return SnapMeansMma(args, work, plan, context);
  }
  const StagingView& staging = args.context.staging;
  const int64_t q_bytes = ElementBytes(args.window_q.dtype);
  const bool k_vectors = StagedVectors(staging);
  const bool q_vectors =
      IsVectorAligned(args.window_q.data, args.window_q.stride * q_bytes) && staging.head_dim * q_bytes % 16 == 0;
  const int32_t floats = staging.head_dim * (kTileEntries + kRows) + kWarps * kTileEntries;
  const size_t shared = static_cast<size_t>(floats) * sizeof(float);
  const unsigned n_heads = static_cast<unsigned>(args.n_heads);
  const dim3 parts(static_cast<unsigned>(work.parts.parts), n_heads, Blocks(work.window, kRows));
  const dim3 tiles(Blocks(work.n_before, kTileEntries), n_heads);
  return DispatchFloat(args.window_q.dtype, [&]<typename T>() {
    return DispatchFloat(staging.dtype, [&]<typename Kv>() -> cudaError_t {
      LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &SnapStatisticsKernel<T, Kv>, parts, kThreads, shared, args,
                                       work, q_vectors, k_vectors));
      LUKV_CUDA_RETURN_IF_ERROR(MergeSoftmax(work.parts, work.max, work.factor, context));
      return Launch(context.stream, &SnapMeansKernel<T, Kv>, tiles, kThreads, shared, args, work, q_vectors, k_vectors);
    });
  });
}

}  // namespace

cudaError_t ScoreSnapKv(const ScoreSnapKvArgs& args, const OpContext& context) {
  const StagingView& staging = args.context.staging;
  SnapWork work;
  work.group = args.n_heads / staging.n_kv_heads;
  work.window = static_cast<int32_t>(args.window_q.rows);
  work.n_tokens = args.context.n_tokens;
  work.n_before = work.n_tokens - work.window;
  work.parts.parts = static_cast<int32_t>(Blocks(work.n_tokens, kSnapPartEntries));
  work.parts.rows = args.n_heads * work.window;
  const dim3 pool(Blocks(work.n_before, kPoolThreads), static_cast<unsigned>(staging.n_kv_heads));
  const int64_t n_greatest = static_cast<int64_t>(pool.x) * pool.y;
  const auto take = [&](FloatMemory memory) {
    work.parts.max = memory.Take(int64_t{work.parts.parts} * work.parts.rows);
    work.parts.sum = memory.Take(int64_t{work.parts.parts} * work.parts.rows);
    work.max = memory.Take(work.parts.rows);
    work.factor = memory.Take(work.parts.rows);
    work.means = memory.Take(int64_t{args.n_heads} * work.n_before);
    work.greatest = memory.Take(n_greatest);
    return memory.bytes();
  };
  void* memory = nullptr;
  LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(take(FloatMemory(nullptr)), &memory));
  take(FloatMemory(memory));
  if (work.n_before > 0) {
    LUKV_CUDA_RETURN_IF_ERROR(WeighWindow(args, work, context));
    LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &SnapPoolKernel, pool, kPoolThreads, 0, args, work));
  }
  return FillProtected(args.scores, work.n_before, work.window, work.greatest, n_greatest, context);
}

}  // namespace lukv::cuda
