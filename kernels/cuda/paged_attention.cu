#include <algorithm>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/attention_plain.h"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/paged_plan.h"

namespace lukv::cuda {

inline constexpr int kPagedThreads = 128;
inline constexpr int kPagedWarps = kPagedThreads / kWarp;
inline constexpr int kPagedRowTile = 16;  // Rows of an mma

// Where a block is in its range of items: at the entries from `begin` on of the item's chunk.
struct PagedCursor {
  int item;
  int end_item;
  int unit_index;
  // Of the unit.
  int first_item;
  int max_visible;
  int chunk_entries;
  uint32_t pages;
  // Of the chunk.
  int begin;
  int end;

  LUKV_DEVICE bool done() const { return item >= end_item; }
  LUKV_DEVICE int Chunk() const { return item - first_item; }
  LUKV_DEVICE int ChunkBegin() const { return Chunk() * chunk_entries; }

  LUKV_DEVICE explicit PagedCursor(const PagedLaunch& launch) {
    const int64_t items = launch.counts->items;
    item = static_cast<int>(items * blockIdx.x / gridDim.x);
    end_item = static_cast<int>(items * (blockIdx.x + 1) / gridDim.x);
    if (done()) return;
    // The last unit that begins at the item or before; every warp looks at 32 units at once.
    int high = launch.counts->units;
    unit_index = 0;
    while (high - unit_index > 1) {
      const int step = (high - unit_index + kWarp - 1) / kWarp;
      const int probe = unit_index + Lane() * step;
      const bool before = probe < high && launch.units[probe].first_item <= item;
      unit_index += (__popc(__ballot_sync(kFullWarp, before)) - 1) * step;
      high = min(high, unit_index + step);
    }
    EnterUnit(launch);
    EnterChunk();
  }

  // On to the next tile, in the next chunk or unit if need be.
  LUKV_DEVICE void Advance(const PagedLaunch& launch, int tile_entries) {
    begin += tile_entries;
    if (begin < end) return;
    ++item;
    if (done()) return;
    if (ChunkBegin() >= max_visible) {
      ++unit_index;
      EnterUnit(launch);
    }
    EnterChunk();
  }

 private:
  LUKV_DEVICE void EnterUnit(const PagedLaunch& launch) {
    const PagedUnit unit = launch.units[unit_index];
    first_item = unit.first_item;
    max_visible = unit.MaxVisible();
    chunk_entries = unit.chunk_entries;
    pages = unit.pages;
  }
  LUKV_DEVICE void EnterChunk() {
    begin = ChunkBegin();
    end = min(begin + chunk_entries, max_visible);
  }
};

// Element of the store where K of an entry of the cursor's head begins; V is page_tokens rows later.
LUKV_DEVICE int64_t PagedElement(const PagedAttentionArgs& args, uint32_t head_pages, int entry) {
  const uint32_t page_tokens = static_cast<uint32_t>(args.pages.page_tokens);
  const uint32_t page = static_cast<uint32_t>(entry) / page_tokens;
  const uint32_t row = static_cast<uint32_t>(entry) - page * page_tokens;
  return (2 * static_cast<int64_t>(args.table.arena[head_pages + page]) * page_tokens + row) * args.pages.head_dim;
}

template <int kHeadDim>
struct PagedShape {
  // Entries of a tile. With 256 dimensions two blocks of 64 would not fit in a multiprocessor.
  static constexpr int kKeys = kHeadDim <= 128 ? 64 : 32;
  static constexpr int kStride = kAttentionStride<kHeadDim>;
  static constexpr int kTile = kKeys * kStride;  // Elements of a tile of K or V in shared memory
  static constexpr int kStages = 2;              // Tiles of K, and of V, on their way or at work
  // Beyond 16 rows each warp has a row tile of its own, if its sums over all dimensions fit in the registers.
  static constexpr bool kByRows = kHeadDim <= 128;
  static constexpr int kUnitRows = kByRows ? kPagedWarps * kPagedRowTile : kPagedRowTile;
  static constexpr int kWeightStride = kKeys + 8;
  static constexpr size_t kSharedBytes =
      static_cast<size_t>(2 * kStages * kTile + kPagedRowTile * kWeightStride) * sizeof(__nv_bfloat16) +
      kStages * kKeys * sizeof(int64_t) + kPagedWarps * kPagedRowTile * sizeof(float);
  static constexpr int kBlocks = 2;  // Per multiprocessor, at most
  // When the warps share rows, a warp has 16 of a tile's keys, and as many dimensions as make whole pairs of 8.
  static constexpr int kKeyWarps = kKeys / 16;
  static constexpr int kWarpDims = (kHeadDim / 16 + kPagedWarps - 1) / kPagedWarps * 16;
  using Sums = AttentionSums<1, (kByRows ? kHeadDim : kWarpDims) / 8>;
};

// A block's shared memory.
template <int kHeadDim>
struct PagedShared {
  using Shape = PagedShape<kHeadDim>;
  __nv_bfloat16* k;        // [kStages][kTile]
  __nv_bfloat16* v;        // [kStages][kTile]
  __nv_bfloat16* weights;  // [kPagedRowTile][kWeightStride]
  int64_t* elements;       // [kStages][kKeys]: where the entries of a tile are in the store; -1: nowhere
  float* highest;          // [kPagedWarps][kPagedRowTile]

  LUKV_DEVICE explicit PagedShared(__nv_bfloat16* memory)
      : k(memory),
        v(k + Shape::kStages * Shape::kTile),
        weights(v + Shape::kStages * Shape::kTile),
        elements(reinterpret_cast<int64_t*>(weights + kPagedRowTile * Shape::kWeightStride)),
        highest(reinterpret_cast<float*>(elements + Shape::kStages * Shape::kKeys)) {}
};

// Asks for a tile of K, or of V with offset = page_tokens * kHeadDim.
template <int kHeadDim>
LUKV_DEVICE void PagedCopyTile(__nv_bfloat16* tile, const void* store, int64_t offset, const int64_t* elements) {
  using Shape = PagedShape<kHeadDim>;
  constexpr int kRowThreads = kHeadDim == 96 ? 4 : kHeadDim / 8;
  constexpr int kRowsAtOnce = kPagedThreads / kRowThreads;
  const int row = static_cast<int>(threadIdx.x) / kRowThreads;
  const int col = static_cast<int>(threadIdx.x) % kRowThreads * 8;
  const __nv_bfloat16* const base = static_cast<const __nv_bfloat16*>(store) + offset + col;
#pragma unroll
  for (int r = 0; r < Shape::kKeys; r += kRowsAtOnce) {
    const int64_t element = elements[row + r];
    const bool there = element >= 0;
#pragma unroll
    for (int c = 0; c < kHeadDim; c += kRowThreads * 8) {
      AsyncCopy16(tile + (row + r) * Shape::kStride + col + c, base + (there ? element : 0) + c, there);
    }
  }
}

// The rows of a unit that a lane has in the warp's row tile, one per half.
template <int kHeadDim>
struct PagedLaneRows {
  uint32_t q[kHeadDim / 16][4];  // Fragments of the row tile
  int visible[2];                // 0: there is no such row.
  int max_visible;               // Of all rows of the row tile
  int partial[2];                // Row of the launch * n_heads + head

  LUKV_DEVICE void Load(const PagedLaunch& launch, const PagedUnit& unit, int first) {
    const ConstMatrix& matrix = launch.args.q;
    const int last = min(first + kPagedRowTile, unit.Rows()) - 1;
    max_visible = last < first ? 0 : unit.visible + last / unit.heads;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = first + half * 8 + Lane() / 4;
      const bool there = i < unit.Rows();
      const int token = i / unit.heads;
      const int head = unit.first_head + i % unit.heads;
      visible[half] = there ? unit.visible + token : 0;
      partial[half] = (unit.row + token) * launch.args.n_heads + head;
      const int64_t row = launch.row_begin + unit.row + token;
      const int64_t col = static_cast<int64_t>(head) * kHeadDim + Lane() % 4 * 2;
#pragma unroll
      for (int k = 0; k < kHeadDim / 16; ++k) {
        q[k][half] = there ? AttentionLoadPair(matrix, launch.aligned, row, col + k * 16) : 0;
        q[k][half + 2] = there ? AttentionLoadPair(matrix, launch.aligned, row, col + k * 16 + 8) : 0;
      }
    }
  }

  // Scores of the keys from entry `begin` on become those of the rows alone.
  template <int kKeyTiles>
  LUKV_DEVICE void Mask(int begin, float (&s)[1][kKeyTiles][4]) const {
    // The first row sees less than the last by fewer entries than there are rows.
    if (begin + kKeyTiles * 8 + kPagedRowTile <= max_visible) return;
    const int each[1][2] = {{visible[0], visible[1]}};
    AttentionMask(begin, each, s);
  }

  LUKV_DEVICE auto Query() const {
    return [this](uint32_t(&a)[4], int, int step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = q[step][i];
    };
  }
};

// A tile when every warp has rows of its own. between() waits for V and frees K.
template <int kHeadDim, typename Between>
LUKV_DEVICE void PagedTileByRows(const __nv_bfloat16* k, const __nv_bfloat16* v, int begin, float scale,
                                 const PagedLaneRows<kHeadDim>& rows, const Between& between,
                                 typename PagedShape<kHeadDim>::Sums& sums) {
  using Shape = PagedShape<kHeadDim>;
  const bool active = begin < rows.max_visible;
  float s[1][Shape::kKeys / 8][4];
  if (active) AttentionScores<kHeadDim>(k, rows.Query(), s);
  between();
  if (!active) return;
  rows.Mask(begin, s);
  float highest[1][2];
  AttentionRowMax(s, highest);
  AttentionRaise<kHeadDim / 8>(highest, scale, sums);
  uint32_t weights[1][Shape::kKeys / 16][4];
  AttentionWeights(s, scale, sums.max, weights);
  AttentionValues<kHeadDim, kHeadDim / 8>(v, weights, sums);
}

// A tile when there are 16 rows or less: the warps share out the keys for the scores, and the dimensions for the
// product with V. The arithmetic of a row is the same, so are its bits.
template <int kHeadDim, typename Between>
LUKV_DEVICE void PagedTileByKeys(const __nv_bfloat16* k, const __nv_bfloat16* v, int begin, float scale,
                                 const PagedLaneRows<kHeadDim>& rows, const PagedShared<kHeadDim>& shared,
                                 const Between& between, typename PagedShape<kHeadDim>::Sums& sums) {
  using Shape = PagedShape<kHeadDim>;
  const int row = Lane() / 4;
  const int first_key = Warp() * 16;
  float s[1][2][4];
  float highest[1][2];
  if (Warp() < Shape::kKeyWarps) {
    AttentionScores<kHeadDim>(k + first_key * Shape::kStride, rows.Query(), s);
    rows.Mask(begin + first_key, s);
    AttentionRowMax(s, highest);
    if (Lane() % 4 == 0) {
      shared.highest[Warp() * kPagedRowTile + row] = highest[0][0];
      shared.highest[Warp() * kPagedRowTile + row + 8] = highest[0][1];
    }
  }
  between();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    highest[0][half] = kAttentionHidden;
#pragma unroll
    for (int w = 0; w < Shape::kKeyWarps; ++w) {
      highest[0][half] = fmaxf(highest[0][half], shared.highest[w * kPagedRowTile + row + half * 8]);
    }
  }
  constexpr int kDims = Shape::kWarpDims / 8;
  AttentionRaise<kDims>(highest, scale, sums);
  if (Warp() < Shape::kKeyWarps) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int half = i % 2;
      const int key = first_key + i / 2 * 8 + Lane() % 4 * 2;
      *reinterpret_cast<uint32_t*>(shared.weights + (row + half * 8) * Shape::kWeightStride + key) =
          AttentionWeightPair(s[0][i / 2][2 * half], s[0][i / 2][2 * half + 1], scale, sums.max[0][half]);
    }
  }
  __syncthreads();
  const int first_dim = Warp() * Shape::kWarpDims;
  if (first_dim >= kHeadDim) return;
  uint32_t weights[1][Shape::kKeys / 16][4];
#pragma unroll
  for (int step = 0; step < Shape::kKeys / 16; ++step) {
    LoadMatrices(weights[0][step], shared.weights + Lane() % 16 * Shape::kWeightStride + step * 16 + Lane() / 16 * 8);
  }
  AttentionValues<kHeadDim, kDims>(v + first_dim, weights, sums);
}

// Writes the partial results of a chunk: kDims times 8 dimensions from first_dim on, and what belongs to the row.
template <int kDims, int kHeadDim>
LUKV_DEVICE void PagedStore(const PagedLaunch& launch, const PagedCursor& at, const PagedLaneRows<kHeadDim>& rows,
                            int first_dim, bool softmax, const typename PagedShape<kHeadDim>::Sums& sums) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows.visible[half] <= at.ChunkBegin()) continue;
    const int64_t partial = static_cast<int64_t>(rows.partial[half]) * launch.chunk_slots + at.Chunk();
    float* const acc = launch.acc + partial * kHeadDim + first_dim + Lane() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDims; ++n) {
      *reinterpret_cast<float2*>(acc + n * 8) = {sums.acc[0][n][2 * half], sums.acc[0][n][2 * half + 1]};
    }
    if (softmax && Lane() % 4 == 0) launch.softmax[partial] = {sums.max[0][half], sums.sum[0][2 * half]};
  }
}

// Persistent blocks, each with a contiguous range of items that it goes through tile by tile. Copies run up to two
// tiles ahead, over the ends of items; where the entries of a tile are in the store is looked up one tile earlier
// still.
template <int kHeadDim>
__global__ void __launch_bounds__(kPagedThreads, PagedShape<kHeadDim>::kBlocks) PagedMmaKernel(PagedLaunch launch) {
  using Shape = PagedShape<kHeadDim>;
  LUKV_DYNAMIC_SHARED(__nv_bfloat16, memory);
  const PagedShared<kHeadDim> shared(memory);
  PagedCursor at(launch);
  if (at.done()) return;
  const PageStoreView& pages = launch.args.pages;
  const int64_t v_offset = static_cast<int64_t>(pages.page_tokens) * kHeadDim;
  PagedCursor ahead = at;
  // Where the thread's entry of the tile ahead is. Only as many threads as a tile has entries.
  const bool locates = static_cast<int>(threadIdx.x) < Shape::kKeys;
  const auto locate = [&]() -> int64_t {
    const int entry = ahead.begin + static_cast<int>(threadIdx.x);
    return ahead.done() || !locates || entry >= ahead.end ? -1 : PagedElement(launch.args, ahead.pages, entry);
  };
  const auto copy = [&](__nv_bfloat16* tiles, int64_t offset, int stage) {
    PagedCopyTile<kHeadDim>(tiles + stage * Shape::kTile, pages.base, offset, shared.elements + stage * Shape::kKeys);
    AsyncCommit();
  };
  for (int stage = 0; stage < 2; ++stage) {
    if (locates) shared.elements[stage * Shape::kKeys + threadIdx.x] = locate();
    ahead.Advance(launch, Shape::kKeys);
  }
  int64_t located = locate();
  __syncthreads();
  copy(shared.k, 0, 0);
  copy(shared.v, v_offset, 0);
  copy(shared.k, 0, 1);

  PagedLaneRows<kHeadDim> rows;
  typename Shape::Sums sums;
  int loaded = -1;  // Unit that `rows` is of
  bool by_keys = false;
  for (int stage = 0; !at.done(); stage ^= 1) {
    if (at.unit_index != loaded) {
      loaded = at.unit_index;
      const PagedUnit unit = launch.units[loaded];
      by_keys = unit.Rows() <= kPagedRowTile;
      rows.Load(launch, unit, by_keys ? 0 : Warp() * kPagedRowTile);
    }
    if (at.begin == at.ChunkBegin()) sums.Reset();
    AsyncWait<2>();
    __syncthreads();  // This tile's K is there, and nobody is at the last tile's V any more.
    copy(shared.v, v_offset, stage ^ 1);
    if (locates) shared.elements[stage * Shape::kKeys + threadIdx.x] = located;
    ahead.Advance(launch, Shape::kKeys);
    located = locate();
    const auto between = [&] {
      AsyncWait<2>();
      __syncthreads();  // This tile's V is there, and nobody reads its K any more.
      copy(shared.k, 0, stage);
    };
    const __nv_bfloat16* const k = shared.k + stage * Shape::kTile;
    const __nv_bfloat16* const v = shared.v + stage * Shape::kTile;
    const bool last_tile = at.begin + Shape::kKeys >= at.end;
    if (by_keys) {
      PagedTileByKeys(k, v, at.begin, launch.scale, rows, shared, between, sums);
      const int first_dim = Warp() * Shape::kWarpDims;
      if (last_tile && first_dim < kHeadDim) {
        PagedStore<Shape::kWarpDims / 8>(launch, at, rows, first_dim, first_dim == 0, sums);
      }
    } else if constexpr (Shape::kByRows) {
      PagedTileByRows(k, v, at.begin, launch.scale, rows, between, sums);
      if (last_tile) PagedStore<kHeadDim / 8>(launch, at, rows, 0, true, sums);
    }
    at.Advance(launch, Shape::kKeys);
  }
  AsyncWait<0>();
}

// The same without tensor cores, for what has none: 16 rows of a unit, four per warp.
template <typename T>
__global__ void __launch_bounds__(kPlainThreads, 4) PagedPlainKernel(PagedLaunch launch) {
  LUKV_DYNAMIC_SHARED(float, memory);
  const int head_dim = launch.args.pages.head_dim;
  const PlainShared shared(memory, head_dim);
  const T* const store = static_cast<const T*>(launch.args.pages.base);
  const int64_t v_offset = static_cast<int64_t>(launch.args.pages.page_tokens) * head_dim;
  const int warp_row = Warp() * kPlainWarpRows;
  PlainSums sums;
  for (PagedCursor at(launch); !at.done(); at.Advance(launch, at.chunk_entries)) {
    const PagedUnit unit = launch.units[at.unit_index];
    for (int r = 0; r < kPlainWarpRows; ++r) {
      const bool there = warp_row + r < unit.Rows();
      const int64_t row = launch.row_begin + unit.row + (warp_row + r) / unit.heads;
      const int64_t col = static_cast<int64_t>(unit.first_head + (warp_row + r) % unit.heads) * head_dim;
      for (int d = Lane(); d < head_dim; d += kWarp) {
        *shared.RowOf(shared.q + Warp() * head_dim + d, r) = there ? AttentionLoad(launch.args.q, row, col + d) : 0.0f;
      }
    }
    const int lane_row = warp_row + Lane() / (kWarp / kPlainWarpRows);
    const int visible = lane_row < unit.Rows() ? unit.visible + lane_row / unit.heads : 0;
    sums.Reset();
    PlainAttend<T>(
        at.begin, at.end, visible, head_dim, launch.scale,
        [&](int entry, const T** k, const T** v) {
          *k = store + PagedElement(launch.args, unit.pages, entry);
          *v = *k + v_offset;
        },
        shared, sums);
#pragma unroll
    for (int r = 0; r < kPlainWarpRows; ++r) {
      const int row = warp_row + r;
      const int lane = r * (kWarp / kPlainWarpRows);
      const float max = __shfl_sync(kFullWarp, sums.max, lane);
      const float sum = __shfl_sync(kFullWarp, sums.sum, lane);
      if (__shfl_sync(kFullWarp, visible, lane) <= at.begin) continue;
      const int64_t partial =
          launch.Partial(unit.row + row / unit.heads, unit.first_head + row % unit.heads, at.Chunk());
      if (Lane() == 0) launch.softmax[partial] = {max, sum};
#pragma unroll
      for (int i = 0; i < kPlainPairs; ++i) {
        const int d = 2 * (Lane() + i * kWarp);
        if (d < head_dim) *PlainPair(launch.acc + partial * head_dim + d) = sums.acc[r][i];
      }
    }
  }
}

namespace {

template <int kHeadDim>
cudaError_t AttendMma(const PagedLaunch& launch, const OpContext& context) {
  using Shape = PagedShape<kHeadDim>;
  // A block takes 1 KiB more than it asks for; a multiprocessor has that much more than a block may have.
  constexpr size_t kReserved = 1024;
  const size_t fit = (context.shared_bytes + kReserved) / (Shape::kSharedBytes + kReserved);
  const int blocks = std::clamp(static_cast<int>(fit), 1, Shape::kBlocks);
  return Launch(context.stream, &PagedMmaKernel<kHeadDim>, static_cast<unsigned>(context.multiprocessors * blocks),
                kPagedThreads, Shape::kSharedBytes, launch);
}

template <typename T>
cudaError_t AttendPlain(const PagedLaunch& launch, const OpContext& context) {
  return Launch(context.stream, &PagedPlainKernel<T>, static_cast<unsigned>(context.multiprocessors * 4), kPlainThreads,
                PlainSharedBytes(launch.args.pages.head_dim), launch);
}

}  // namespace

cudaError_t PagedAttention(const PagedAttentionArgs& args, const OpContext& context) {
  const PageStoreView& pages = args.pages;
  const auto run_mma = [&]<int kHeadDim>() {
    return RunPagedAttention(args, PagedShape<kHeadDim>::kUnitRows, &AttendMma<kHeadDim>, context);
  };
  // cp.async takes 16 bytes at a time.
  if (pages.dtype == DType::kBF16 && reinterpret_cast<uintptr_t>(pages.base) % 16 == 0) {
    switch (pages.head_dim) {
      case 64:
        return run_mma.template operator()<64>();
      case 96:
        return run_mma.template operator()<96>();
      case 128:
        return run_mma.template operator()<128>();
      case 256:
        return run_mma.template operator()<256>();
      default:
        break;
    }
  }
  if (pages.head_dim > kPlainMaxHeadDim) return cudaErrorInvalidValue;
  return DispatchFloat(pages.dtype,
                       [&]<typename T>() { return RunPagedAttention(args, kPlainRows, &AttendPlain<T>, context); });
}

}  // namespace lukv::cuda
