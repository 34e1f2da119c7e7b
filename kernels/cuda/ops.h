// The bodies of the ops. Arguments were checked (kernels/backend.cc) and have at least one row; dtypes are kF32 or
// kBF16. Each only issues work on the context's stream. One .cu file per op, named like it.
#pragma once

#include "kernels/args.h"
#include "kernels/cuda/op_context.h"
#include "kernels/evict_args.h"
#include "kernels/sample_args.h"

namespace lukv::cuda {

// The most that PagedAttention takes of the workspace (paged_plan.h).
inline constexpr int64_t kPagedWorkspaceBytes = int64_t{136} << 20;

cudaError_t RmsNorm(const RmsNormArgs& args, const OpContext& context);
cudaError_t RopeStage(const RopeStageArgs& args, const OpContext& context);
cudaError_t PrefillAttention(const PrefillAttentionArgs& args, const OpContext& context);
cudaError_t Append(const AppendArgs& args, const OpContext& context);
cudaError_t PagedAttention(const PagedAttentionArgs& args, const OpContext& context);
cudaError_t Compact(const CompactArgs& args, const OpContext& context);
// copies: device, [n].
cudaError_t CopyPages(const PageStoreView& pages, const PageCopy* copies, int32_t n, const OpContext& context);
cudaError_t SiluMul(const SiluMulArgs& args, const OpContext& context);
cudaError_t GatherRows(const GatherRowsArgs& args, const OpContext& context);
cudaError_t Sample(const SampleArgs& args, const OpContext& context);
cudaError_t QueryMoments(const QueryMomentsArgs& args, const OpContext& context);
cudaError_t ScoreExpectedAttention(const ScoreExpectedAttentionArgs& args, const OpContext& context);
cudaError_t ScoreSnapKv(const ScoreSnapKvArgs& args, const OpContext& context);
cudaError_t ScoreKeyDiff(const ScoreKeyDiffArgs& args, const OpContext& context);
cudaError_t ScoreKeyNorm(const ScoreKeyNormArgs& args, const OpContext& context);
cudaError_t AdaptiveBudgets(const AdaptiveBudgetsArgs& args, const OpContext& context);
cudaError_t SelectTop(const SelectTopArgs& args, const OpContext& context);
cudaError_t PagedAttentionWeights(const PagedAttentionWeightsArgs& args, const OpContext& context);

}  // namespace lukv::cuda
