// Where rows of K and V lie in pages and in staging.
#pragma once

#include "kernels/args.h"
#include "kernels/cuda/device.h"

namespace lukv::cuda {

// REQUIRES: kF32 or kBF16.
inline int64_t ElementBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

LUKV_DEVICE int64_t PageHeadIndex(const PageTableView& table, int32_t slot, int32_t layer, int32_t head) {
  return (static_cast<int64_t>(slot) * table.n_layers + layer) * table.n_kv_heads + head;
}

// Row of the store that is K of an entry of the head; V is page_tokens rows later.
LUKV_DEVICE int64_t PageRow(const PageStoreView& pages, const PageTableView& table, int64_t head_index, int32_t entry) {
  const uint32_t page_tokens = static_cast<uint32_t>(pages.page_tokens);
  const uint32_t page = static_cast<uint32_t>(entry) / page_tokens;
  const uint32_t row = static_cast<uint32_t>(entry) - page * page_tokens;
  return 2 * static_cast<int64_t>(table.arena[table.offset[head_index] + page]) * page_tokens + row;
}

// Row of the staging that is K, and V, of its row `row` of the head.
LUKV_DEVICE int64_t StagingRow(const StagingView& staging, int32_t head, int32_t row) {
  return static_cast<int64_t>(head) * staging.capacity + row;
}

}  // namespace lukv::cuda
