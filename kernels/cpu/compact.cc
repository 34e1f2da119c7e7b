#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/paged_rows.h"

namespace lukv::cpu {
namespace {

// Copies pages [begin, end) of one head.
void CompactPages(const CompactArgs& args, int32_t head, int64_t begin, int64_t end) {
  const int32_t page_tokens = args.pages.page_tokens;
  const size_t row_bytes = static_cast<size_t>(args.pages.head_dim) * ElementBytes(args.pages.dtype);
  const size_t index = HeadIndex(args.table, args.slot, args.layer, head);
  const int32_t kept = args.table.kept[index];
  const PageId* pages = args.table.arena + args.table.offset[index];
  const int32_t* rows = args.kept_rows == nullptr ? nullptr : args.kept_rows + args.kept_offset[head];
  const size_t head_begin = static_cast<size_t>(head) * static_cast<size_t>(args.staging.capacity) * row_bytes;
  const std::byte* k = static_cast<const std::byte*>(args.staging.k) + head_begin;
  const std::byte* v = static_cast<const std::byte*>(args.staging.v) + head_begin;
  for (int64_t p = begin; p < end; ++p) {
    const int32_t first = static_cast<int32_t>(p) * page_tokens;
    const int32_t n = std::min(page_tokens, kept - first);
    std::byte* page_k = PageBytes(args.pages, pages[p]);
    std::byte* page_v = page_k + static_cast<size_t>(page_tokens) * row_bytes;
    for (int32_t i = 0; i < n; ++i) {
      const int32_t row = args.context_row + (rows == nullptr ? first + i : rows[first + i]);
      const size_t from = static_cast<size_t>(row) * row_bytes;
      const size_t to = static_cast<size_t>(i) * row_bytes;
      std::memcpy(page_k + to, k + from, row_bytes);
      std::memcpy(page_v + to, v + from, row_bytes);
    }
  }
}

}  // namespace

void Compact(const CompactArgs& args, OpContext& context) {
  // The longest head sets the number of tasks per head; shorter heads leave theirs empty.
  constexpr int32_t kEntriesPerTask = 512;
  const int32_t n_heads = args.table.n_kv_heads;
  const int64_t pages_per_task = std::max(1, kEntriesPerTask / args.pages.page_tokens);
  int64_t most_pages = 0;
  const auto pages_of = [&](int32_t head) {
    const int64_t kept = args.table.kept[HeadIndex(args.table, args.slot, args.layer, head)];
    return (kept + args.pages.page_tokens - 1) / args.pages.page_tokens;
  };
  for (int32_t h = 0; h < n_heads; ++h) most_pages = std::max(most_pages, pages_of(h));
  const int64_t tasks_per_head = (most_pages + pages_per_task - 1) / pages_per_task;
  context.pool.ParallelFor(tasks_per_head * n_heads, [&](int64_t task, int) {
    const int32_t head = static_cast<int32_t>(task / tasks_per_head);
    const int64_t begin = task % tasks_per_head * pages_per_task;
    CompactPages(args, head, begin, std::min(begin + pages_per_task, pages_of(head)));
  });
}

void CopyPages(const CopyPagesArgs& args, OpContext& context) {
  const size_t bytes = size_t{2} * static_cast<size_t>(args.pages.page_tokens) *
                       static_cast<size_t>(args.pages.head_dim) * ElementBytes(args.pages.dtype);
  constexpr int64_t kCopiesPerTask = 16;
  context.pool.ParallelFor((args.n_copies + kCopiesPerTask - 1) / kCopiesPerTask, [&](int64_t task, int) {
    const int64_t end = std::min(args.n_copies, (task + 1) * kCopiesPerTask);
    for (int64_t i = task * kCopiesPerTask; i < end; ++i) {
      std::memcpy(PageBytes(args.pages, args.copies[i].to), PageBytes(args.pages, args.copies[i].from), bytes);
    }
  });
}

}  // namespace lukv::cpu
