// Bodies of the CPU backend's ops; arguments have been checked (kernels/backend.cc). One file per op or pair of ops;
// the instruction set is the backend's: HWY_EXPORT each target's function, call it with LUKV_DISPATCH.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/args.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/evict_args.h"
#include "kernels/sample_args.h"

namespace lukv::cpu {

// What an op may use besides its arguments. Scratch grows on demand and is kept.
class OpContext {
 public:
  OpContext(ThreadPool& thread_pool, CpuTarget target)
      : pool(thread_pool),
        dispatch_index(DispatchIndex(target)),
        bf16_products(target == CpuTarget::kAvx512Bf16),
        scratch_(static_cast<size_t>(thread_pool.threads()) + 1) {}

  ThreadPool& pool;
  const size_t dispatch_index;  // For LUKV_DISPATCH.
  const bool bf16_products;     // The CPU multiplies bf16 by bf16 (AVX512_BF16).
  SharedArena weights;          // Of the packed layers.

  // 64-byte aligned, uninitialised, valid until the next call for the same thread. Thread -1: shared by the whole op.
  std::byte* Scratch(int thread, size_t bytes);

 private:
  std::vector<std::vector<std::byte>> scratch_;
};

void RmsNorm(const RmsNormArgs& args, OpContext& context);
void RopeStage(const RopeStageArgs& args, OpContext& context);
void PrefillAttention(const PrefillAttentionArgs& args, OpContext& context);
void Append(const AppendArgs& args, OpContext& context);
void PagedAttention(const PagedAttentionArgs& args, OpContext& context);
void CopyPages(const CopyPagesArgs& args, OpContext& context);
void Compact(const CompactArgs& args, OpContext& context);
void SiluMul(const SiluMulArgs& args, OpContext& context);
void GatherRows(const GatherRowsArgs& args, OpContext& context);
void Sample(const SampleArgs& args, OpContext& context);
void QueryMoments(const QueryMomentsArgs& args, OpContext& context);
void ScoreExpectedAttention(const ScoreExpectedAttentionArgs& args, OpContext& context);
void ScoreSnapKv(const ScoreSnapKvArgs& args, OpContext& context);
void ScoreKeyDiff(const ScoreKeyDiffArgs& args, OpContext& context);
void ScoreKeyNorm(const ScoreKeyNormArgs& args, OpContext& context);
void AdaptiveBudgets(const AdaptiveBudgetsArgs& args, OpContext& context);
void SelectTop(const SelectTopArgs& args, OpContext& context);
void PagedAttentionWeights(const PagedAttentionWeightsArgs& args, OpContext& context);

}  // namespace lukv::cpu
