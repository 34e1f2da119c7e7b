// Where K and V of one kv head lie, for attention and for the scorers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/args.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/paged_rows.h"

namespace lukv::cpu {

// In the staging, from `row` on.
inline KvSource StagedSource(const StagingView& staging, int32_t row, int32_t kv_head, bool bf16_products) {
  const size_t begin =
      (static_cast<size_t>(kv_head) * static_cast<size_t>(staging.capacity) + static_cast<size_t>(row)) *
      static_cast<size_t>(staging.head_dim) * ElementBytes(staging.dtype);
  return {.k = static_cast<const std::byte*>(staging.k) + begin,
          .v = static_cast<const std::byte*>(staging.v) + begin,
          .dtype = staging.dtype,
          .bf16_products = bf16_products && staging.dtype == DType::kBF16,
          .head_dim = staging.head_dim,
          .page_entries = staging.capacity};
}

// In the pages of the head with this index (HeadIndex).
inline KvSource PagedSource(const PageTableView& table, const PageStoreView& pages, size_t head_index,
                            bool bf16_products) {
  const size_t half_page = static_cast<size_t>(pages.page_tokens) * static_cast<size_t>(pages.head_dim);
  return {.k = pages.base,
          .v = static_cast<const std::byte*>(pages.base) + half_page * ElementBytes(pages.dtype),
          .dtype = pages.dtype,
          .bf16_products = bf16_products && pages.dtype == DType::kBF16,
          .head_dim = pages.head_dim,
          .pages = table.arena + table.offset[head_index],
          .page_entries = pages.page_tokens,
          .page_stride = 2 * half_page};
}

}  // namespace lukv::cpu
