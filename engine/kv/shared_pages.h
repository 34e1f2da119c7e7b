// Entries that several sequences read: what a slot's heads held at some moment.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv/page_pool.h"

namespace lukv {

// Immutable, reference-counted by shared_ptr; its pages go back to the pool with the last reference. Belongs to the
// engine thread. The slot that it was taken from may go on writing into each head's last page, behind these entries;
// everybody else copies that page before writing (HeadPageTable::OpenShared).
class SharedPages {
 public:
  // Entries of each head's context, [n_layers * n_kv_heads]; and entries behind them, the same number in every head.
  std::span<const int32_t> kept() const { return kept_; }
  int32_t generated() const { return generated_; }
  // Of one head, in order: [PagesFor(kept[head] + generated)].
  std::span<const PageId> pages(size_t head) const {
    return std::span<const PageId>(pages_).subspan(first_page_[head], first_page_[head + 1] - first_page_[head]);
  }
  // Pages that it holds itself; others are those of what it went on from.
  uint32_t own_pages() const { return static_cast<uint32_t>(lease_.pages().size()); }
  const std::shared_ptr<const SharedPages>& base() const { return base_; }

 private:
  friend class HeadPageTable;
  std::vector<int32_t> kept_;
  int32_t generated_ = 0;
  std::vector<uint32_t> first_page_;  // [heads + 1]
  std::vector<PageId> pages_;
  PageLease lease_;
  std::shared_ptr<const SharedPages> base_;
};

}  // namespace lukv
