#include "kernels/cuda/paged_plan.h"

#include <algorithm>

#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/paged_rows.h"

namespace lukv::cuda {

inline constexpr int kPagedPlanThreads = 256;
inline constexpr int kPagedMergeThreads = kPagedMaxChunks;  // One chunk each

// One launch row and kv head. Where the row is the first of a unit, the unit but for first_item and its heads; else
// tokens is 0.
LUKV_DEVICE PagedUnit PagedUnitAt(const PagedLaunch& launch, int row, int kv_head, int unit_tokens) {
  const PagedAttentionArgs& args = launch.args;
  PagedUnit unit = {};
  unit.row = row;
  const int s = PagedSequence(args.sequences, launch.row_begin + row);
  if (s == args.sequences.n_sequences) return unit;
  const int32_t slot = args.sequences.slots[s];
  const int64_t head = PageHeadIndex(args.table, slot, args.layer, kv_head);
  // In rows of the launch.
  const int begin = args.sequences.row_start[s] - launch.row_begin;
  const int end = args.sequences.row_start[s + 1] - launch.row_begin;
  // A row sees this many entries more than it has rows before it.
  const int more = args.table.kept[head] + args.table.generated[slot] - end + 1;
  unit.visible = more + row;
  if (unit.visible <= 0) return unit;
  unit.pages = args.table.offset[head];
  unit.chunk_entries = PagedChunkEntries(unit.visible);
  // Rows whose chunks are as long: those that see [fewest, most].
  const int64_t most = static_cast<int64_t>(unit.chunk_entries) * kPagedMaxChunks;
  const int64_t fewest = unit.chunk_entries == kPagedChunk ? 1 : most / 2 + 1;
  const int alike_begin = static_cast<int>(max(static_cast<int64_t>(max(begin, 0)), fewest - more));
  const int alike_end = static_cast<int>(min(static_cast<int64_t>(min(end, launch.rows)), most - more + 1));
  if ((row - alike_begin) % unit_tokens == 0) unit.tokens = min(unit_tokens, alike_end - row);
  return unit;
}

// The sums of what the threads before have, and of what all have. `shared` is the block's, for the warps' sums.
LUKV_DEVICE void PagedPrefix(PagedCounts own, PagedCounts* shared, PagedCounts& before, PagedCounts& all) {
  PagedCounts sum = own;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int units = __shfl_up_sync(kFullWarp, sum.units, offset);
    const int items = __shfl_up_sync(kFullWarp, sum.items, offset);
    if (Lane() < offset) continue;
    sum.units += units;
    sum.items += items;
  }
  if (Lane() == kWarp - 1) shared[Warp()] = sum;
  __syncthreads();
  before = {sum.units - own.units, sum.items - own.items};
  all = {0, 0};
  for (int w = 0; w < kPagedPlanThreads / kWarp; ++w) {
    if (w == Warp()) before = {before.units + all.units, before.items + all.items};
    all = {all.units + shared[w].units, all.items + shared[w].items};
  }
  __syncthreads();
}

// One block. Units are in the order of kv heads, then rows.
__global__ void __launch_bounds__(kPagedPlanThreads) PagedPlanKernel(PagedLaunch launch) {
  LUKV_SHARED(PagedCounts, warp_sums, kPagedPlanThreads / kWarp);
  const int n_kv_heads = launch.args.table.n_kv_heads;
  const int group = launch.args.n_heads / n_kv_heads;
  const int unit_heads = min(group, launch.unit_rows);
  const int unit_tokens = launch.unit_rows / unit_heads;
  const int parts = (group + unit_heads - 1) / unit_heads;  // Units that share a group's heads.
  PagedCounts done = {0, 0};
  for (int first = 0; first < launch.rows * n_kv_heads; first += kPagedPlanThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const int kv_head = i / launch.rows;
    const int row = i % launch.rows;
    PagedUnit unit = {};
    if (kv_head < n_kv_heads) {
      unit = PagedUnitAt(launch, row, kv_head, unit_tokens);
      launch.visible[row * n_kv_heads + kv_head] = unit.visible;
    }
    PagedCounts own = {0, 0};
    int chunks = 0;
    if (unit.tokens > 0) {
      chunks = (unit.MaxVisible() + unit.chunk_entries - 1) / unit.chunk_entries;
      own = {parts, parts * chunks};
    }
    PagedCounts before;
    PagedCounts all;
    PagedPrefix(own, warp_sums, before, all);
    for (int part = 0; part < own.units; ++part) {
      unit.first_item = done.items + before.items + part * chunks;
      unit.first_head = kv_head * group + part * unit_heads;
      unit.heads = min(unit_heads, group - part * unit_heads);
      launch.units[done.units + before.units + part] = unit;
    }
    done = {done.units + all.units, done.items + all.items};
  }
  if (threadIdx.x == 0) *launch.counts = done;
}

// One block per row and query head: brings the chunks to the greatest maximum, adds them up in ascending order.
__global__ void __launch_bounds__(kPagedMergeThreads) PagedMergeKernel(PagedLaunch launch) {
  LUKV_SHARED(float, weights, kPagedMaxChunks);
  LUKV_SHARED(float, sums, kPagedMaxChunks);
  LUKV_SHARED(float, warp_max, kPagedMergeThreads / kWarp);
  const int thread = static_cast<int>(threadIdx.x);
  const int row = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int n_kv_heads = launch.args.table.n_kv_heads;
  const int head_dim = launch.args.pages.head_dim;
  const int visible = launch.visible[row * n_kv_heads + head / (launch.args.n_heads / n_kv_heads)];
  const int chunk_entries = PagedChunkEntries(visible);
  const int chunks = visible <= 0 ? 0 : (visible + chunk_entries - 1) / chunk_entries;
  const int64_t partial = launch.Partial(row, head, 0);
  const float2 softmax = thread < chunks ? launch.softmax[partial + thread] : float2{kAttentionHidden, 0};
  const float warp_most = WarpMax(softmax.x);
  if (Lane() == 0) warp_max[Warp()] = warp_most;
  __syncthreads();
  float most = kAttentionHidden;
#pragma unroll
  for (int w = 0; w < kPagedMergeThreads / kWarp; ++w) most = fmaxf(most, warp_max[w]);
  weights[thread] = exp2f(softmax.x - AttentionBase(most));
  sums[thread] = softmax.y;
  __syncthreads();
  float sum = 0;
  for (int c = 0; c < chunks; ++c) sum = fmaf(weights[c], sums[c], sum);
  const float inverse = chunks == 0 ? 0.0f : __fdividef(1.0f, sum);
  const float* const acc = launch.acc + partial * head_dim;
  for (int d = thread; d < head_dim; d += kPagedMergeThreads) {
    float total = 0;
#pragma unroll 8
    for (int c = 0; c < chunks; ++c) total = fmaf(weights[c], acc[static_cast<int64_t>(c) * head_dim + d], total);
    AttentionStore(launch.args.out, launch.row_begin + row, static_cast<int64_t>(head) * head_dim + d, total * inverse);
  }
}

namespace {

constexpr int64_t kAlignment = 256;

// Steps through one piece of memory; without memory it counts.
class Memory {
 public:
  explicit Memory(void* begin) : begin_(static_cast<char*>(begin)) {}
  template <typename T>
  T* Take(int64_t n) {
    T* const taken = begin_ == nullptr ? nullptr : reinterpret_cast<T*>(begin_ + bytes_);
    bytes_ += (n * static_cast<int64_t>(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    return taken;
  }
  size_t bytes() const { return static_cast<size_t>(bytes_); }

 private:
  char* const begin_;
  int64_t bytes_ = 0;
};

// Memory for launches of up to `rows` rows.
size_t TakeMemory(int64_t rows, void* memory, PagedLaunch& launch) {
  const PagedAttentionArgs& args = launch.args;
  const int64_t group = args.n_heads / args.table.n_kv_heads;
  const int64_t partials = rows * args.n_heads * launch.chunk_slots;
  Memory left(memory);
  launch.counts = left.Take<PagedCounts>(1);
  launch.visible = left.Take<int32_t>(rows * args.table.n_kv_heads);
  // A unit has a token at least.
  launch.units = left.Take<PagedUnit>(rows * args.table.n_kv_heads * Blocks(group, launch.unit_rows));
  launch.softmax = left.Take<float2>(partials);
  launch.acc = left.Take<float>(partials * args.pages.head_dim);
  return left.bytes();
}

}  // namespace

cudaError_t RunPagedAttention(const PagedAttentionArgs& args, int32_t unit_rows, PagedAttend attend,
                              const OpContext& context) {
  const int64_t entries = int64_t{args.pages.n_pages} * args.pages.page_tokens;
  PagedLaunch launch = {.args = args,
                        .scale = args.scale * kAttentionLog2E,
                        .aligned = AttentionRowsAligned(args.q) && AttentionRowsAligned(args.out),
                        .unit_rows = unit_rows,
                        .chunk_slots = static_cast<int32_t>(
                            std::clamp<int64_t>((entries + kPagedChunk - 1) / kPagedChunk, 1, kPagedMaxChunks))};
  const int64_t row_bytes =
      int64_t{args.n_heads} * launch.chunk_slots * (args.pages.head_dim + 2) * static_cast<int64_t>(sizeof(float));
  const int64_t most_rows = std::max<int64_t>(1, kPagedWorkspaceBytes / row_bytes);
  const int64_t launches = (args.q.rows + most_rows - 1) / most_rows;
  const int64_t rows = (args.q.rows + launches - 1) / launches;
  void* memory = nullptr;
  LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(TakeMemory(rows, nullptr, launch), &memory));
  TakeMemory(rows, memory, launch);
  for (int64_t begin = 0; begin < args.q.rows; begin += rows) {
    launch.row_begin = static_cast<int32_t>(begin);
    launch.rows = static_cast<int32_t>(std::min(rows, args.q.rows - begin));
    LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &PagedPlanKernel, 1, kPagedPlanThreads, 0, launch));
    LUKV_CUDA_RETURN_IF_ERROR(attend(launch, context));
    const dim3 grid(static_cast<unsigned>(launch.rows), static_cast<unsigned>(args.n_heads));
    LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &PagedMergeKernel, grid, kPagedMergeThreads, 0, launch));
  }
  return cudaSuccess;
}

}  // namespace lukv::cuda
