#include <cfloat>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/score_snapkv.h"
#include "kernels/cuda/score_tiles.h"

namespace lukv::cuda {

namespace {

constexpr int kRows = 16;    // Queries of a tile: of one query head, what is missing is zeros.
constexpr int kColumns = 8;  // Entries of one product.
constexpr int kDepth = 16;   // Dimensions of one product.
constexpr int kBlocks = kTileEntries / kColumns;
constexpr int kMostWarps = 8;
constexpr int kStages = 2;  // Tiles of keys in shared memory: one in use, one on its way.
// Two blocks of a multiprocessor have room on all devices from sm_80 on.
constexpr size_t kMostSharedBytes = size_t{80} * 1024;

constexpr int32_t SnapTilesPerHead(int32_t window) { return (window + kRows - 1) / kRows; }

// Rows in shared memory are 16 bytes longer than they are: the 8 rows of a matrix that ldmatrix reads lie in different
// banks.
LUKV_DEVICE int32_t SnapStride(int32_t head_dim) { return head_dim + 8; }

// A block's shared memory. Row t * kRows + r is query r of tile t.
struct SnapMmaShared {
  __nv_bfloat16* queries;  // [tiles * kRows, stride]
  __nv_bfloat16* keys;     // [kStages, kTileEntries, stride]
  float* max;              // [tiles * kRows]
  float* sum;              // [tiles * kRows]; in the second pass the weights' factor, 0 for queries that do not exist
  float* columns;          // [tiles, kTileEntries]: sums of a tile's weights
};

LUKV_DEVICE SnapMmaShared SnapMmaSharedOf(uint4* memory, int32_t tiles, int32_t head_dim) {
  const int32_t stride = SnapStride(head_dim);
  SnapMmaShared shared;
  shared.queries = reinterpret_cast<__nv_bfloat16*>(memory);
  shared.keys = shared.queries + tiles * kRows * stride;
  shared.max = reinterpret_cast<float*>(shared.keys + kStages * kTileEntries * stride);
  shared.sum = shared.max + tiles * kRows;
  shared.columns = shared.sum + tiles * kRows;
  return shared;
}

size_t SnapMmaSharedBytes(int32_t tiles, int32_t head_dim) {
  const int64_t halves = static_cast<int64_t>(tiles * kRows + kStages * kTileEntries) * (head_dim + 8);
  const int64_t floats = static_cast<int64_t>(tiles) * (2 * kRows + kTileEntries);
  return static_cast<size_t>(halves * 2 + floats * 4);
}

// Asks for n rows of which the first `existing` exist; the others become zeros.
LUKV_DEVICE void SnapCopyRows(const __nv_bfloat16* from, int64_t from_stride, int32_t n, int32_t existing,
                              int32_t head_dim, __nv_bfloat16* to) {
  const int32_t parts = head_dim / 8;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n * parts; i += static_cast<int32_t>(blockDim.x)) {
    const int32_t row = i / parts;
    const int32_t at = (i - row * parts) * 8;
    const bool exists = row < existing;
    AsyncCopy16(to + row * SnapStride(head_dim) + at, exists ? from + row * from_stride + at : from, exists);
  }
}

// Products of a tile of queries with a tile of keys. Of block b lane l has in logits[b][0] and [1] columns
// 2 (l % 4) and the next of row l / 4, in [2] and [3] those of row l / 4 + 8.
LUKV_DEVICE void SnapMultiplyMma(const __nv_bfloat16* queries, const __nv_bfloat16* keys, int32_t head_dim,
                                 float (&logits)[kBlocks][4]) {
  const int32_t stride = SnapStride(head_dim);
  const int32_t lane = Lane();
  const __nv_bfloat16* const q_row = queries + (lane % 16) * stride + lane / 16 * 8;
  const __nv_bfloat16* const k_row = keys + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) logits[b][i] = 0;
  }
#pragma unroll 2
  for (int32_t d = 0; d < head_dim; d += kDepth) {
    uint32_t q[4];
    LoadMatrices(q, q_row + d);
#pragma unroll
    for (int b = 0; b < kBlocks; b += 2) {
      uint32_t k[4];
      LoadMatrices(k, k_row + b * kColumns * stride + d);
      const uint32_t low[2] = {k[0], k[1]};
      const uint32_t high[2] = {k[2], k[3]};
      MultiplyAdd(logits[b], q, low);
      MultiplyAdd(logits[b + 1], q, high);
    }
  }
}

// Adds a tile's weights to the statistics of its queries; query `first_query` is the tile's first, entry 0 of the tile
// is the first that query `first_seen` - 1 does not see.
LUKV_DEVICE void SnapAddStatistics(float (&logits)[kBlocks][4], float scale, int32_t first_seen, float* max,
                                   float* sum) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int32_t row = Lane() / 4 + 8 * half;
    // The window's queries see each other causally.
    const int32_t seen = first_seen + row - 2 * (Lane() % 4);
    const float before = max[row];
    float most = before;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& logit = logits[b][2 * half + c];
        logit = b * kColumns + c < seen ? logit * scale : -INFINITY;
        most = fmaxf(most, logit);
      }
    }
    most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
    most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2));
    float weight = 0;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      weight += exp2f(logits[b][2 * half] - most);
      weight += exp2f(logits[b][2 * half + 1] - most);
    }
    weight += __shfl_xor_sync(kFullWarp, weight, 1);
    weight += __shfl_xor_sync(kFullWarp, weight, 2);
    __syncwarp();  // All have read what was there.
    if (Lane() % 4 == 0) {
      max[row] = most;
      sum[row] = fmaf(sum[row], exp2f(before - most), weight);
    }
  }
}

// Of 2 kHalf columns two lanes, `offset` apart, have sums: the upper one keeps the upper half, with the other's added.
template <int kHalf>
LUKV_DEVICE void SnapHalve(int offset, float (&sums)[2 * kBlocks]) {
  const bool upper = (Lane() & offset) != 0;
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float a = sums[i];
    const float b = sums[kHalf + i];
    sums[i] = (upper ? b : a) + __shfl_xor_sync(kFullWarp, upper ? a : b, offset);
  }
}

// Sums of the tile's weights over its queries, [kTileEntries].
LUKV_DEVICE void SnapSumColumns(const float (&logits)[kBlocks][4], float scale, const float* max, const float* factor,
                                float* columns) {
  const int32_t row = Lane() / 4;
  const float max_low = max[row];
  const float max_high = max[row + 8];
  const float factor_low = factor[row];
  const float factor_high = factor[row + 8];
  float sums[2 * kBlocks];
#pragma unroll
  for (int i = 0; i < 2 * kBlocks; ++i) {
    const float low = exp2f(fmaf(logits[i / 2][i % 2], scale, -max_low)) * factor_low;
    sums[i] = fmaf(exp2f(fmaf(logits[i / 2][2 + i % 2], scale, -max_high)), factor_high, low);
  }
  // Over the 8 lanes with these columns.
  SnapHalve<kBlocks>(4, sums);
  SnapHalve<kBlocks / 2>(8, sums);
  SnapHalve<kBlocks / 4>(16, sums);
  const int32_t b = (Lane() >> 2 & 1) * 4 + (Lane() >> 3 & 1) * 2 + (Lane() >> 4 & 1);
  columns[b * kColumns + 2 * (Lane() % 4)] = sums[0];
  columns[b * kColumns + 2 * (Lane() % 4) + 1] = sums[1];
}

}  // namespace

// Some query heads of one kv head (blockIdx.y), entries of one part (blockIdx.x). A warp has every so many'th tile of
// queries.
template <bool kMeans>
__global__ void __launch_bounds__(kMostWarps* kWarp)
    SnapMmaKernel(ScoreSnapKvArgs args, SnapWork work, int32_t heads_per_block) {
  LUKV_DYNAMIC_SHARED(uint4, memory);
  const int32_t head_dim = args.context.staging.head_dim;
  const int32_t stride = SnapStride(head_dim);
  const int32_t tiles_per_head = SnapTilesPerHead(work.window);
  const int32_t chunks = (work.group + heads_per_block - 1) / heads_per_block;
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y) / chunks;
  const int32_t first_in_group = static_cast<int32_t>(blockIdx.y) % chunks * heads_per_block;
  const int32_t first_head = kv_head * work.group + first_in_group;
  const int32_t n_heads = min(heads_per_block, work.group - first_in_group);
  const int32_t tiles = n_heads * tiles_per_head;
  const SnapMmaShared shared = SnapMmaSharedOf(memory, tiles, head_dim);
  const int32_t begin = static_cast<int32_t>(blockIdx.x) * kSnapPartEntries;
  const int32_t end = min(begin + kSnapPartEntries, kMeans ? work.n_before : work.n_tokens);
  const float scale = args.scale * kLog2E;
  const int32_t threads = static_cast<int32_t>(blockDim.x);

  for (int32_t h = 0; h < n_heads; ++h) {
    SnapCopyRows(args.window_q.row<__nv_bfloat16>(0) + static_cast<int64_t>(first_head + h) * head_dim,
                 args.window_q.stride, tiles_per_head * kRows, work.window, head_dim,
                 shared.queries + h * tiles_per_head * kRows * stride);
  }
  const __nv_bfloat16* const keys = StagedRow<__nv_bfloat16>(args.context, args.context.staging.k, kv_head);
  const auto copy_keys = [&](int32_t first) {
    if (first < end) {
      SnapCopyRows(keys + static_cast<int64_t>(first) * head_dim, head_dim, kTileEntries, work.n_tokens - first,
                   head_dim, shared.keys + first / kTileEntries % kStages * kTileEntries * stride);
    }
    AsyncCommit();
  };
  copy_keys(begin);
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < tiles * kRows; i += threads) {
    const int32_t query = i % (tiles_per_head * kRows);
    const int32_t row = (first_head + i / (tiles_per_head * kRows)) * work.window + query;
    const bool exists = kMeans && query < work.window;
    shared.max[i] = exists ? work.max[row] : (kMeans ? 0.0f : -FLT_MAX);
    shared.sum[i] = exists ? work.factor[row] : 0.0f;
  }

  for (int32_t first = begin; first < end; first += kTileEntries) {
    copy_keys(first + kTileEntries);
    AsyncWait<kStages - 1>();
    __syncthreads();
    const __nv_bfloat16* const tile_keys = shared.keys + first / kTileEntries % kStages * kTileEntries * stride;
    for (int32_t t = Warp(); t < tiles; t += threads / kWarp) {
      float logits[kBlocks][4];
      SnapMultiplyMma(shared.queries + t * kRows * stride, tile_keys, head_dim, logits);
      if constexpr (kMeans) {
        SnapSumColumns(logits, scale, shared.max + t * kRows, shared.sum + t * kRows,
                       shared.columns + t * kTileEntries);
      } else {
        const int32_t first_query = t % tiles_per_head * kRows;
        SnapAddStatistics(logits, scale, work.n_before + first_query + 1 - first, shared.max + t * kRows,
                          shared.sum + t * kRows);
      }
    }
    __syncthreads();
    if constexpr (kMeans) {
      for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n_heads * kTileEntries; i += threads) {
        const int32_t entry = first + i % kTileEntries;
        const int32_t h = i / kTileEntries;
        if (entry >= end) continue;
        float total = 0;
        for (int32_t t = h * tiles_per_head; t < (h + 1) * tiles_per_head; ++t) {
          total += shared.columns[t * kTileEntries + i % kTileEntries];
        }
        work.means[static_cast<int64_t>(first_head + h) * work.n_before + entry] =
            total / static_cast<float>(work.window);
      }
    }
  }
  if constexpr (!kMeans) {
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n_heads * work.window; i += threads) {
      const int32_t h = i / work.window;
      const int32_t from = h * tiles_per_head * kRows + i % work.window;
      const int64_t to = static_cast<int64_t>(blockIdx.x) * work.parts.rows + first_head * work.window + i;
      work.parts.max[to] = shared.max[from];
      work.parts.sum[to] = shared.sum[from];
    }
  }
}

SnapMmaPlan PlanSnapMma(const ScoreSnapKvArgs& args, const OpContext& context) {
  const StagingView& staging = args.context.staging;
  const bool fits = args.window_q.dtype == DType::kBF16 && staging.dtype == DType::kBF16 &&
                    staging.head_dim % kDepth == 0 && StagedVectors(staging) &&
                    IsVectorAligned(args.window_q.data, args.window_q.stride * 2);
  SnapMmaPlan plan;
  if (!fits) return plan;
  const int32_t tiles_per_head = SnapTilesPerHead(static_cast<int32_t>(args.window_q.rows));
  const int32_t group = args.n_heads / staging.n_kv_heads;
  const size_t limit = context.shared_bytes < kMostSharedBytes ? context.shared_bytes : kMostSharedBytes;
  // As many heads as there is room for, the same number in all blocks if that can be.
  for (int32_t chunks = 1; chunks <= group; ++chunks) {
    const int32_t heads = (group + chunks - 1) / chunks;
    const size_t bytes = SnapMmaSharedBytes(heads * tiles_per_head, staging.head_dim);
    if (bytes > (heads == 1 ? context.shared_bytes : limit)) continue;
    plan.heads = heads;
    plan.tiles = heads * tiles_per_head;
    plan.shared_bytes = bytes;
    break;
  }
  return plan;
}

namespace {

template <bool kMeans>
cudaError_t LaunchSnapMma(const ScoreSnapKvArgs& args, const SnapWork& work, const SnapMmaPlan& plan,
                          const OpContext& context) {
  const int32_t chunks = (work.group + plan.heads - 1) / plan.heads;
  const dim3 grid(Blocks(kMeans ? work.n_before : work.n_tokens, kSnapPartEntries),
                  static_cast<unsigned>(args.context.staging.n_kv_heads * chunks));
  const int32_t warps = plan.tiles < kMostWarps ? plan.tiles : kMostWarps;
  return Launch(context.stream, &SnapMmaKernel<kMeans>, grid, static_cast<unsigned>(warps * kWarp), plan.shared_bytes,
                args, work, plan.heads);
}

}  // namespace

cudaError_t SnapStatisticsMma(const ScoreSnapKvArgs& args, const SnapWork& work, const SnapMmaPlan& plan,
                              const OpContext& context) {
  return LaunchSnapMma<false>(args, work, plan, context);
}
cudaError_t SnapMeansMma(const ScoreSnapKvArgs& args, const SnapWork& work, const SnapMmaPlan& plan,
                         const OpContext& context) {
  return LaunchSnapMma<true>(args, work, plan, context);
}

}  // namespace lukv::cuda
