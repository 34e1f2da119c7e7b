// Where things lie in pages and page tables. Shared by the ops that read or write pages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/args.h"

namespace lukv::cpu {

// REQUIRES: kF32 or kBF16.
inline size_t ElementBytes(DType dtype) { return dtype == DType::kF32 ? sizeof(float) : sizeof(uint16_t); }

inline size_t HeadIndex(const PageTableView& table, int32_t slot, int32_t layer, int32_t head) {
  return (static_cast<size_t>(slot) * static_cast<size_t>(table.n_layers) + static_cast<size_t>(layer)) *
             static_cast<size_t>(table.n_kv_heads) +
         static_cast<size_t>(head);
}

// First byte of a page, where its K begins.
inline std::byte* PageBytes(const PageStoreView& pages, PageId page) {
  const size_t page_elements = 2 * static_cast<size_t>(pages.page_tokens) * static_cast<size_t>(pages.head_dim);
  return static_cast<std::byte*>(pages.base) + static_cast<size_t>(page) * page_elements * ElementBytes(pages.dtype);
}

}  // namespace lukv::cpu
