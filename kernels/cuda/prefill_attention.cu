#include <algorithm>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {

// Segments of one launch: they travel with the kernel's parameters.
inline constexpr int kPrefillSegments = 32;

// A segment's queries, n_query tokens with all heads of a kv head each, are its rows: row i is token i / group, head
// i % group. They are cut into row tiles, one per block.
struct PrefillParams {
  ConstMatrix q;
  Matrix out;
  StagingView staging;
  int group = 0;
  float scale = 0;       // Of scores, for powers of 2
  bool aligned = false;  // AttentionRowsAligned of q and out.
  int n_segments = 0;
  PrefillSegment segments[kPrefillSegments] = {};
  int first_tile[kPrefillSegments + 1] = {};  // Of each segment; the last one is the count of all.
};

// The row tile of a block.
struct PrefillTile {
  PrefillSegment segment;
  int kv_head;
  int first_row;  // In the segment
  int rows;

  // The rows that see the most come first, so that the short ones even out the end.
  LUKV_DEVICE PrefillTile(const PrefillParams& p, int tile_rows) {
    const int n_kv_heads = p.staging.n_kv_heads;
    const int block = static_cast<int>(blockIdx.x);
    const int tile = p.first_tile[p.n_segments] - 1 - block / n_kv_heads;
    int s = 0;
    while (tile >= p.first_tile[s + 1]) ++s;
    segment = p.segments[s];
    kv_head = block % n_kv_heads;
    first_row = (tile - p.first_tile[s]) * tile_rows;
    rows = min(tile_rows, segment.n_query * p.group - first_row);
  }

  // Of row r of the tile; those past the end are like the last one.
  LUKV_DEVICE int Token(const PrefillParams& p, int r) const { return (first_row + min(r, rows - 1)) / p.group; }
  LUKV_DEVICE int Visible(const PrefillParams& p, int r) const { return segment.first + Token(p, r) + 1; }
  LUKV_DEVICE int64_t MatrixRow(const PrefillParams& p, int r) const { return segment.q_row + Token(p, r); }
  // Column of its head's first dimension.
  LUKV_DEVICE int64_t MatrixCol(const PrefillParams& p, int r) const {
    return static_cast<int64_t>(kv_head * p.group + (first_row + min(r, rows - 1)) % p.group) * p.staging.head_dim;
  }
  // Element of the staging where the prompt's entries for the kv head begin.
  LUKV_DEVICE int64_t StagingOffset(const PrefillParams& p) const {
    return (static_cast<int64_t>(kv_head) * p.staging.capacity + segment.context_row) * p.staging.head_dim;
  }
};

template <int kHeadDim>
struct PrefillShape {
  static constexpr int kThreads = 128;
  // With two row tiles a warp reads K and V from shared memory half as often; 256 dimensions of two would not fit in
  // its registers.
  static constexpr int kRowTiles = kHeadDim <= 128 ? 2 : 1;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kThreads / kWarp * kWarpRows;
  static constexpr int kKeys = 64;
  static constexpr int kStride = kAttentionStride<kHeadDim>;
  static constexpr size_t kSharedBytes = static_cast<size_t>(kRows + 2 * kKeys) * kStride * sizeof(__nv_bfloat16);
};

// A thread's share in copying tiles of K and V to shared memory, 16 bytes at a time.
template <int kHeadDim>
struct PrefillCopy {
  using Shape = PrefillShape<kHeadDim>;
  // Neighbouring threads take neighbouring parts of a row; a row takes a power of 2 of threads.
  static constexpr int kRowThreads = kHeadDim == 96 ? 4 : kHeadDim / 8;
  static constexpr int kRowsAtOnce = Shape::kThreads / kRowThreads;

  LUKV_DEVICE static int Row() { return static_cast<int>(threadIdx.x) / kRowThreads; }
  LUKV_DEVICE static int Col() { return static_cast<int>(threadIdx.x) % kRowThreads * 8; }

  // tile, entries: where the thread's first part goes, and where it is. Of its rows the first `there` (in rows of the
  // tile) are copied, the others become 0.
  LUKV_DEVICE static void Issue(__nv_bfloat16* tile, const __nv_bfloat16* entries, int there) {
#pragma unroll
    for (int r = 0; r < Shape::kKeys; r += kRowsAtOnce) {
#pragma unroll
      for (int c = 0; c < kHeadDim; c += kRowThreads * 8) {
        AsyncCopy16(tile + r * Shape::kStride + c, entries + r * kHeadDim + c, r < there);
      }
    }
  }
};

// What row r of the tile sees lies in the padding after its query: masks are needed at the end only, and registers are
// scarce until then.
template <int kHeadDim>
LUKV_DEVICE int* PrefillVisible(__nv_bfloat16* q, int r) {
  return reinterpret_cast<int*>(q + r * PrefillShape<kHeadDim>::kStride + kHeadDim);
}

template <int kHeadDim>
LUKV_DEVICE void PrefillLoadQueries(const PrefillParams& p, const PrefillTile& tile, __nv_bfloat16* q) {
  using Shape = PrefillShape<kHeadDim>;
  static_assert(Shape::kRows <= Shape::kThreads);
  const int r = static_cast<int>(threadIdx.x);
  if (r < Shape::kRows) *PrefillVisible<kHeadDim>(q, r) = tile.Visible(p, r);
  constexpr int kParts = kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < Shape::kRows * kParts; i += Shape::kThreads) {
    const int row = i / kParts;
    const int col = i % kParts * 8;
    *reinterpret_cast<uint4*>(q + row * Shape::kStride + col) =
        AttentionLoadEight(p.q, p.aligned, tile.MatrixRow(p, row), tile.MatrixCol(p, row) + col);
  }
}

template <int kHeadDim, int kRowTiles>
LUKV_DEVICE void PrefillStore(const PrefillParams& p, const AttentionSums<kRowTiles, kHeadDim / 8>& sums) {
  const PrefillTile tile(p, PrefillShape<kHeadDim>::kRows);
#pragma unroll
  for (int t = 0; t < kRowTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = Warp() * PrefillShape<kHeadDim>::kWarpRows + t * 16 + half * 8 + Lane() / 4;
      if (r >= tile.rows) continue;
      const int64_t row = tile.MatrixRow(p, r);
      const int64_t col = tile.MatrixCol(p, r) + Lane() % 4 * 2;
      const float inverse = __fdividef(1.0f, sums.sum[t][2 * half]);
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
        AttentionStorePair(p.out, p.aligned, row, col + n * 8, sums.acc[t][n][2 * half] * inverse,
                           sums.acc[t][n][2 * half + 1] * inverse);
      }
    }
  }
}

// One block per row tile and kv head: four warps with rows of their own that share K and V. K and V of a tile are two
// stages of a pipeline: while the scores are computed V is on its way, and the next K while V is at work. (The
// arrangement is that of FlashAttention-2, Dao 2023, arXiv 2307.08691.)
template <int kHeadDim>
__global__ void __launch_bounds__(PrefillShape<kHeadDim>::kThreads, 2) PrefillMmaKernel(PrefillParams p) {
  using Shape = PrefillShape<kHeadDim>;
  constexpr int kRowTiles = Shape::kRowTiles;
  LUKV_DYNAMIC_SHARED(__nv_bfloat16, q_rows);
  __nv_bfloat16* const k_tile = q_rows + Shape::kRows * Shape::kStride;
  __nv_bfloat16* const v_tile = k_tile + Shape::kKeys * Shape::kStride;
  const PrefillTile tile(p, Shape::kRows);
  const __nv_bfloat16* const k = static_cast<const __nv_bfloat16*>(p.staging.k);
  const __nv_bfloat16* const v = static_cast<const __nv_bfloat16*>(p.staging.v);
  using Copy = PrefillCopy<kHeadDim>;
  int64_t offset = tile.StagingOffset(p) + Copy::Row() * kHeadDim + Copy::Col();
  __nv_bfloat16* const k_copy = k_tile + Copy::Row() * Shape::kStride + Copy::Col();
  const int end = tile.Visible(p, tile.rows - 1);
  const int copy_end = end - Copy::Row();
  Copy::Issue(k_copy, k + offset, copy_end);
  AsyncCommit();
  PrefillLoadQueries<kHeadDim>(p, tile, q_rows);

  const int warp_row = Warp() * Shape::kWarpRows;
  // What the warp's last row sees; nothing, if it has none.
  const int warp_end = warp_row < tile.rows ? tile.Visible(p, warp_row + Shape::kWarpRows - 1) : 0;
  const __nv_bfloat16* const lane_q = q_rows + (warp_row + Lane() % 16) * Shape::kStride + Lane() / 16 * 8;
  AttentionSums<kRowTiles, kHeadDim / 8> sums;
  sums.Reset();
  for (int begin = 0; begin < end; begin += Shape::kKeys) {
    AsyncWait<0>();
    __syncthreads();  // K (and the queries) are there, and nobody reads V any more.
    Copy::Issue(k_copy + Shape::kKeys * Shape::kStride, v + offset, copy_end - begin);
    AsyncCommit();
    const bool active = begin < warp_end;
    float s[kRowTiles][Shape::kKeys / 8][4];
    if (active) {
      AttentionScores<kHeadDim>(
          k_tile,
          [&](uint32_t(&a)[4], int t, int step) { LoadMatrices(a, lane_q + t * 16 * Shape::kStride + step * 16); }, s);
    }
    AsyncWait<0>();
    __syncthreads();  // V is there, and nobody reads K any more.
    offset += Shape::kKeys * kHeadDim;
    if (begin + Shape::kKeys < end) {
      Copy::Issue(k_copy, k + offset, copy_end - begin - Shape::kKeys);
      AsyncCommit();
    }
    if (!active) continue;
    // The first row sees at most a warp's rows less than the last.
    if (begin + Shape::kKeys + Shape::kWarpRows > warp_end) {
      int visible[kRowTiles][2];
#pragma unroll
      for (int t = 0; t < kRowTiles; ++t) {
        visible[t][0] = *PrefillVisible<kHeadDim>(q_rows, warp_row + t * 16 + Lane() / 4);
        visible[t][1] = *PrefillVisible<kHeadDim>(q_rows, warp_row + t * 16 + Lane() / 4 + 8);
      }
      AttentionMask(begin, visible, s);
    }
    float highest[kRowTiles][2];
    AttentionRowMax(s, highest);
    AttentionRaise<kHeadDim / 8>(highest, p.scale, sums);
    uint32_t weights[kRowTiles][Shape::kKeys / 16][4];
    AttentionWeights(s, p.scale, sums.max, weights);
    AttentionValues<kHeadDim, kHeadDim / 8>(v_tile, weights, sums);
  }
  PrefillStore<kHeadDim>(p, sums);
}

template <typename T>
__global__ void __launch_bounds__(kPlainThreads, 4) PrefillPlainKernel(PrefillParams p) {
  LUKV_DYNAMIC_SHARED(float, memory);
  const int head_dim = p.staging.head_dim;
  const PlainShared shared(memory, head_dim);
  const PrefillTile tile(p, kPlainRows);
  const T* const k = static_cast<const T*>(p.staging.k) + tile.StagingOffset(p);
  const T* const v = static_cast<const T*>(p.staging.v) + tile.StagingOffset(p);
  const int warp_row = Warp() * kPlainWarpRows;
  for (int r = 0; r < kPlainWarpRows; ++r) {
    const int64_t row = tile.MatrixRow(p, warp_row + r);
    const int64_t col = tile.MatrixCol(p, warp_row + r);
    for (int d = Lane(); d < head_dim; d += kWarp) {
      *shared.RowOf(shared.q + Warp() * head_dim + d, r) = AttentionLoad(p.q, row, col + d);
    }
  }
  PlainSums sums;
  sums.Reset();
  const int visible = tile.Visible(p, warp_row + Lane() / (kWarp / kPlainWarpRows));
  PlainAttend<T>(
      0, tile.Visible(p, tile.rows - 1), visible, head_dim, p.scale,
      [&](int entry, const T** k_row, const T** v_row) {
        *k_row = k + static_cast<int64_t>(entry) * head_dim;
        *v_row = v + static_cast<int64_t>(entry) * head_dim;
      },
      shared, sums);
#pragma unroll
  for (int r = 0; r < kPlainWarpRows; ++r) {
    const float sum = __shfl_sync(kFullWarp, sums.sum, r * (kWarp / kPlainWarpRows));
    if (warp_row + r >= tile.rows) continue;
    const float inverse = __fdividef(1.0f, sum);
    const int64_t row = tile.MatrixRow(p, warp_row + r);
    const int64_t col = tile.MatrixCol(p, warp_row + r);
#pragma unroll
    for (int i = 0; i < kPlainPairs; ++i) {
      const int d = 2 * (Lane() + i * kWarp);
      if (d >= head_dim) break;
      AttentionStorePair(p.out, p.aligned, row, col + d, sums.acc[r][i].x * inverse, sums.acc[r][i].y * inverse);
    }
  }
}

namespace {

// Calls launch(params, tiles) for all segments, as many at a time as the parameters hold.
template <typename F>
cudaError_t ForSegments(const PrefillAttentionArgs& args, int tile_rows, const F& launch) {
  PrefillParams p = {.q = args.q,
                     .out = args.out,
                     .staging = args.staging,
                     .group = args.n_heads / args.staging.n_kv_heads,
                     .scale = args.scale * kAttentionLog2E,
                     .aligned = AttentionRowsAligned(args.q) && AttentionRowsAligned(args.out),
                     .n_segments = 0,
                     .segments = {},
                     .first_tile = {}};
  for (int32_t i = 0; i < args.n_segments;) {
    int64_t tiles = 0;
    for (p.n_segments = 0; p.n_segments < kPrefillSegments && i < args.n_segments; ++i) {
      const PrefillSegment& segment = args.segments[i];
      if (segment.n_query == 0) continue;
      p.segments[p.n_segments] = segment;
      p.first_tile[p.n_segments] = static_cast<int>(tiles);
      tiles += Blocks(int64_t{segment.n_query} * p.group, tile_rows);
      p.first_tile[++p.n_segments] = static_cast<int>(tiles);
    }
    if (tiles > 0) LUKV_CUDA_RETURN_IF_ERROR(launch(p, Blocks(tiles * p.staging.n_kv_heads, 1)));
  }
  return cudaSuccess;
}

template <int kHeadDim>
cudaError_t RunPrefillMma(const PrefillAttentionArgs& args, cudaStream_t stream) {
  using Shape = PrefillShape<kHeadDim>;
  return ForSegments(args, Shape::kRows, [&](const PrefillParams& p, unsigned blocks) {
    return Launch(stream, &PrefillMmaKernel<kHeadDim>, blocks, Shape::kThreads, Shape::kSharedBytes, p);
  });
}

}  // namespace

cudaError_t PrefillAttention(const PrefillAttentionArgs& args, const OpContext& context) {
  const StagingView& staging = args.staging;
  // cp.async takes 16 bytes at a time.
  const bool aligned = (reinterpret_cast<uintptr_t>(staging.k) | reinterpret_cast<uintptr_t>(staging.v)) % 16 == 0;
  if (staging.dtype == DType::kBF16 && aligned) {
    switch (staging.head_dim) {
      case 64:
        return RunPrefillMma<64>(args, context.stream);
      case 96:
        return RunPrefillMma<96>(args, context.stream);
      case 128:
        return RunPrefillMma<128>(args, context.stream);
      case 256:
        return RunPrefillMma<256>(args, context.stream);
      default:
        break;
    }
  }
  if (staging.head_dim > kPlainMaxHeadDim) return cudaErrorInvalidValue;
  return DispatchFloat(staging.dtype, [&]<typename T>() {
    return ForSegments(args, kPlainRows, [&](const PrefillParams& p, unsigned blocks) {
      return Launch(context.stream, &PrefillPlainKernel<T>, blocks, kPlainThreads, PlainSharedBytes(staging.head_dim),
                    p);
    });
  });
}

}  // namespace lukv::cuda
