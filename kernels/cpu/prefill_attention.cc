#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/paged_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/prefill_attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// Tokens [token, token + n) of a segment with the query heads of one kv head.
void PrefillBlock(const PrefillAttentionArgs& args, const PrefillSegment& segment, int32_t kv_head, int32_t token,
                  int32_t n, bool bf16_products, const BlockScratch& scratch) {
  const StagingView& staging = args.staging;
  const int32_t group = args.n_heads / staging.n_kv_heads;
  const size_t begin = (static_cast<size_t>(kv_head) * static_cast<size_t>(staging.capacity) +
                        static_cast<size_t>(segment.context_row)) *
                       static_cast<size_t>(staging.head_dim) * ElementBytes(staging.dtype);
  const KvSource source = {.k = static_cast<const std::byte*>(staging.k) + begin,
                           .v = static_cast<const std::byte*>(staging.v) + begin,
                           .dtype = staging.dtype,
                           .bf16_products = bf16_products && staging.dtype == DType::kBF16,
                           .head_dim = staging.head_dim,
                           .page_entries = staging.capacity};
  const RowBlock block = {.rows = n * group,
                          .group = group,
                          .head_dim = staging.head_dim,
                          .first_visible = segment.first + token + 1,
                          .scale = args.scale * kLog2E};
  AttendBlock(args.q, source, block, {.row = segment.q_row + token, .first_head = kv_head * group}, scratch, args.out);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(PrefillBlock);

void PrefillAttention(const PrefillAttentionArgs& args, OpContext& context) {
  const int32_t n_kv_heads = args.staging.n_kv_heads;
  const int32_t head_dim = args.staging.head_dim;
  const int32_t group = args.n_heads / n_kv_heads;
  const int32_t tokens = TokensPerBlock(group);
  const auto blocks_of = [&](const PrefillSegment& s) { return (int64_t{s.n_query} + tokens - 1) / tokens; };
  int64_t n_blocks = 0;
  for (int32_t i = 0; i < args.n_segments; ++i) n_blocks += blocks_of(args.segments[i]);

  const size_t rows = static_cast<size_t>(tokens) * static_cast<size_t>(group);
  context.pool.ParallelFor(n_blocks * n_kv_heads, [&](int64_t task, int thread) {
    // Last blocks first: they see the most, and the short ones even out the end.
    int64_t block = n_blocks - 1 - task / n_kv_heads;
    const PrefillSegment* segment = args.segments;
    for (; block >= blocks_of(*segment); ++segment) block -= blocks_of(*segment);
    const int32_t token = static_cast<int32_t>(block) * tokens;
    FloatArena arena(context.Scratch(thread, BlockScratchBytes(rows, head_dim)));
    LUKV_DISPATCH(context, PrefillBlock)
    (args, *segment, static_cast<int32_t>(task % n_kv_heads), token, std::min(tokens, segment->n_query - token),
     context.bf16_products, TakeBlock(arena, rows, head_dim));
  });
}

}  // namespace lukv::cpu
#endif
