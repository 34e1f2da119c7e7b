#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_scratch.h"
#include "kernels/cpu/kv_source.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/paged_rows.h"

namespace lukv::cpu {
namespace {

// A block has tasks [first_task, first_task of the next block): one per split of its entries, or one in all.
struct Work {
  KvSource source;
  RowBlock block;
  int64_t first_task = 0;
  int64_t splits = 0;      // 0: one task takes the block over all its entries.
  size_t first_state = 0;  // Of its splits.
};

// Blocks of so few rows are bound by reading K and V: each split is a task of its own, so that heads of any length
// spread evenly over the threads. Blocks of more rows are many enough themselves and are worth a task as they are.
constexpr int32_t kMaxRowsToSplit = 32;

struct Plan {
  std::vector<Work> works;
  int64_t n_tasks = 0;
  size_t n_states = 0;
  size_t max_rows = 0;
  size_t max_split_rows = 0;
};

void PlanSequence(const PagedAttentionArgs& args, int32_t sequence, bool bf16_products, Plan& plan) {
  const PageTableView& table = args.table;
  const int32_t group = args.n_heads / table.n_kv_heads;
  const int32_t slot = args.sequences.slots[sequence];
  const int32_t row = args.sequences.row_start[sequence];
  const int32_t n = args.sequences.row_start[sequence + 1] - row;
  const int32_t tokens = std::min(n, TokensPerBlock(group));
  for (int32_t h = 0; h < table.n_kv_heads; ++h) {
    const size_t index = HeadIndex(table, slot, args.layer, h);
    const int32_t length = table.kept[index] + table.generated[slot];
    for (int32_t token = 0; token < n; token += tokens) {
      const int32_t block_tokens = std::min(tokens, n - token);
      Work work = {.source = PagedSource(table, args.pages, index, bf16_products),
                   .block = {.rows = block_tokens * group,
                             .group = group,
                             .head_dim = args.pages.head_dim,
                             .first_visible = length - n + token + 1,
                             .first_row = row + token,
                             .first_head = h * group,
                             .scale = args.scale * kLog2E},
                   .first_task = plan.n_tasks,
                   .first_state = plan.n_states};
      const size_t rows = static_cast<size_t>(work.block.rows);
      const int32_t visible = work.block.first_visible + block_tokens - 1;
      if (work.block.rows <= kMaxRowsToSplit && visible > kSplitEntries) {
        work.splits = (visible + kSplitEntries - 1) / kSplitEntries;
        plan.n_states += static_cast<size_t>(work.splits);
        plan.max_split_rows = std::max(plan.max_split_rows, rows);
      }
      plan.n_tasks += std::max<int64_t>(work.splits, 1);
      plan.max_rows = std::max(plan.max_rows, rows);
      plan.works.push_back(work);
    }
  }
}

}  // namespace

void PagedAttention(const PagedAttentionArgs& args, OpContext& context) {
  const int32_t head_dim = args.pages.head_dim;
  Plan plan;
  for (int32_t i = 0; i < args.sequences.n_sequences; ++i) PlanSequence(args, i, context.bf16_products, plan);

  FloatArena count(nullptr);
  TakeState(count, plan.max_split_rows, head_dim);
  const size_t state_bytes = count.bytes();
  std::byte* shared = context.Scratch(-1, plan.n_states * state_bytes);
  std::vector<SoftmaxState> states(plan.n_states);
  for (size_t i = 0; i < plan.n_states; ++i) {
    FloatArena arena(shared + i * state_bytes);
    states[i] = TakeState(arena, plan.max_split_rows, head_dim);
  }
  std::vector<std::atomic<int64_t>> splits_left(plan.works.size());
  for (size_t i = 0; i < plan.works.size(); ++i) {
    splits_left[i].store(plan.works[i].splits, std::memory_order_relaxed);
  }

  context.pool.ParallelFor(plan.n_tasks, [&](int64_t task, int thread) {
    const auto next = std::upper_bound(plan.works.begin(), plan.works.end(), task,
                                       [](int64_t t, const Work& w) { return t < w.first_task; });
    const Work& work = *(next - 1);
    FloatArena arena(context.Scratch(thread, BlockScratchBytes(plan.max_rows, head_dim)));
    const BlockScratch scratch = TakeBlock(arena, plan.max_rows, head_dim);
    if (work.splits == 0) {
      AttendBlock(context, args.q, work.source, work.block, scratch, args.out);
      return;
    }
    const int64_t split = task - work.first_task;
    AttendBlockSplit(context, args.q, work.source, work.block, static_cast<int32_t>(split) * kSplitEntries,
                     states[work.first_state + static_cast<size_t>(split)], scratch);
    // Whoever finishes a block's last split merges them; release and acquire hand the others' states over.
    const size_t index = static_cast<size_t>(&work - plan.works.data());
    if (splits_left[index].fetch_sub(1, std::memory_order_acq_rel) == 1) {
      MergeBlockSplits(context, work.block, &states[work.first_state], work.splits, scratch, args.out);
    }
  });
}

}  // namespace lukv::cpu
