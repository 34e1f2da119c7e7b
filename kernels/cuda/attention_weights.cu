#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/paged_rows.h"

namespace lukv::cuda {

inline constexpr int kWeightsThreads = 128;

// Sum, or the greatest, of the block's threads' values: over lanes, then over warps. To be called by all.
template <typename Warps, typename Merge>
LUKV_DEVICE float WeightsReduce(float value, float* shared, const Warps& of_warp, const Merge& merge) {
  value = of_warp(value);
  __syncthreads();
  if (Lane() == 0) shared[Warp()] = value;
  __syncthreads();
  float all = shared[0];
#pragma unroll
  for (int w = 1; w < kWeightsThreads / kWarp; ++w) all = merge(all, shared[w]);
  return all;
}

// One block per row and query head; a thread takes every kWeightsThreads-th entry.
template <typename T>
__global__ void __launch_bounds__(kWeightsThreads) PagedWeightsKernel(PagedAttentionWeightsArgs args) {
  LUKV_DYNAMIC_SHARED(float, q);
  LUKV_SHARED(float, shared, kWeightsThreads / kWarp);
  const int thread = static_cast<int>(threadIdx.x);
  const int row = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int head_dim = args.pages.head_dim;
  const int s = PagedSequence(args.sequences, row);
  if (s == args.sequences.n_sequences) return;
  const int32_t slot = args.sequences.slots[s];
  const int64_t kv_head = PageHeadIndex(args.table, slot, args.layer, head / (args.n_heads / args.table.n_kv_heads));
  const int visible = args.table.kept[kv_head] + args.table.generated[slot] - args.sequences.row_start[s + 1] + row + 1;
  const float scale = args.scale * kAttentionLog2E;
  for (int d = thread; d < head_dim; d += kWeightsThreads) {
    q[d] = AttentionLoad(args.q, row, static_cast<int64_t>(head) * head_dim + d);
  }
  __syncthreads();

  float* const out = args.out + (static_cast<int64_t>(row) * args.n_heads + head) * args.n_entries;
  float max = kAttentionHidden;
  float sum = 0;
  for (int e = thread; e < visible; e += kWeightsThreads) {
    const T* const k = static_cast<const T*>(args.pages.base) + PageRow(args.pages, args.table, kv_head, e) * head_dim;
    float dot = 0;
    for (int d = 0; d < head_dim; ++d) dot = fmaf(q[d], ToFloat(k[d]), dot);
    const float logit = dot * scale;
    const float next = fmaxf(max, logit);
    sum = fmaf(sum, exp2f(max - AttentionBase(next)), exp2f(logit - AttentionBase(next)));
    max = next;
    if (e < args.n_entries) out[e] = logit;
  }
  const float most = WeightsReduce(max, shared, &WarpMax, [](float a, float b) { return fmaxf(a, b); });
  sum *= exp2f(max - AttentionBase(most));
  const float total = WeightsReduce(sum, shared, &WarpSum, [](float a, float b) { return a + b; });
  for (int e = thread; e < args.n_entries; e += kWeightsThreads) {
    out[e] = exp2f(out[e] - AttentionBase(most)) / total;
  }
}

cudaError_t PagedAttentionWeights(const PagedAttentionWeightsArgs& args, const OpContext& context) {
  const dim3 grid(static_cast<unsigned>(args.q.rows), static_cast<unsigned>(args.n_heads));
  const size_t shared_bytes = static_cast<size_t>(args.pages.head_dim) * sizeof(float);
  return DispatchFloat(args.pages.dtype, [&]<typename T>() {
    return Launch(context.stream, &PagedWeightsKernel<T>, grid, kWeightsThreads, shared_bytes, args);
  });
}

}  // namespace lukv::cuda
