#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/paged_rows.h"

namespace lukv::cpu {
namespace {

// K and V of one kv head from the segment's context on.
KvSource SegmentSource(const StagingView& staging, const PrefillSegment& segment, int32_t kv_head, bool bf16_products) {
  const size_t begin = (static_cast<size_t>(kv_head) * static_cast<size_t>(staging.capacity) +
                        static_cast<size_t>(segment.context_row)) *
                       static_cast<size_t>(staging.head_dim) * ElementBytes(staging.dtype);
  return {.k = static_cast<const std::byte*>(staging.k) + begin,
          .v = static_cast<const std::byte*>(staging.v) + begin,
          .dtype = staging.dtype,
          .bf16_products = bf16_products && staging.dtype == DType::kBF16,
          .head_dim = staging.head_dim,
          .page_entries = staging.capacity};
}

}  // namespace

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
    AttendBlock(context, args.q, SegmentSource(args.staging, *segment, kv_head, context.bf16_products), block,
                TakeBlock(arena, rows, head_dim), args.out);
  });
}

}  // namespace lukv::cpu
