// The window's attention over the entries, in two passes over the keys: softmax statistics of the queries, then the
// mean of their weights. By tensor cores where the operands are bf16 (score_snapkv_mma.cu), else in f32.
#pragma once

#include "kernels/cuda/op_context.h"
#include "kernels/cuda/score_softmax.h"
#include "kernels/evict_args.h"

namespace lukv::cuda {

// One op at work. Row h * window + w is query w of query head h.
struct SnapWork {
  int32_t group = 0;
  int32_t window = 0;
  int32_t n_tokens = 0;
  int32_t n_before = 0;       // Entries before the window: those that are scored.
  SoftmaxParts parts;         // Of kSnapPartEntries entries each.
  float* max = nullptr;       // [rows]
  float* factor = nullptr;    // [rows]
  float* means = nullptr;     // [n_heads, n_before]: mean weight over the queries
  float* greatest = nullptr;  // [blocks of SnapPoolKernel]
};

inline constexpr int kSnapPartEntries = 256;

// How a block of score_snapkv_mma.cu divides the work.
struct SnapMmaPlan {
  int32_t heads = 0;  // Query heads of a block; 0: the operands are not for tensor cores.
  int32_t tiles = 0;  // Tiles of 16 queries of a block.
  size_t shared_bytes = 0;
};
SnapMmaPlan PlanSnapMma(const ScoreSnapKvArgs& args, const OpContext& context);

// work.parts, and work.means of what MergeSoftmax made of them.
cudaError_t SnapStatisticsMma(const ScoreSnapKvArgs& args, const SnapWork& work, const SnapMmaPlan& plan,
                              const OpContext& context);
cudaError_t SnapMeansMma(const ScoreSnapKvArgs& args, const SnapWork& work, const SnapMmaPlan& plan,
                         const OpContext& context);

}  // namespace lukv::cuda
