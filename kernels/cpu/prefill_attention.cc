#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/kv_source.h"
#include "kernels/cpu/ops.h"

namespace lukv::cpu {

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
    int64_t index = n_blocks - 1 - task / n_kv_heads;
    const PrefillSegment* segment = args.segments;
    for (; index >= blocks_of(*segment); ++segment) index -= blocks_of(*segment);
    const int32_t token = static_cast<int32_t>(index) * tokens;
    const int32_t kv_head = static_cast<int32_t>(task % n_kv_heads);
    const RowBlock block = {.rows = std::min(tokens, segment->n_query - token) * group,
                            .group = group,
                            .head_dim = head_dim,
                            .first_visible = segment->first + token + 1,
                            .first_row = segment->q_row + token,
                            .first_head = kv_head * group,
                            .scale = args.scale * kLog2E};
    FloatArena arena(context.Scratch(thread, BlockScratchBytes(rows, head_dim)));
    AttendBlock(context, args.q, StagedSource(args.staging, segment->context_row, kv_head, context.bf16_products),
                block, TakeBlock(arena, rows, head_dim), args.out);
  });
}

}  // namespace lukv::cpu
