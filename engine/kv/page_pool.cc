#include "engine/kv/page_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {

PageLease::PageLease(PageLease&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), owner_(other.owner_), pages_(std::exchange(other.pages_, {})) {}

PageLease& PageLease::operator=(PageLease&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    owner_ = other.owner_;
    pages_ = std::exchange(other.pages_, {});
  }
  return *this;
}

PageLease::~PageLease() { Release(); }

void PageLease::Release() {
  if (pool_ != nullptr) pool_->Return(owner_, pages_);
  pool_ = nullptr;
  pages_.clear();
}

void PageLease::Absorb(PageLease other) {
  if (other.pages_.empty()) return;
  if (pages_.empty()) {
    *this = std::move(other);
    return;
  }
  LUKV_CHECK(pool_ == other.pool_ && owner_ == other.owner_);
  pages_.insert(pages_.end(), other.pages_.begin(), other.pages_.end());
  other.pages_.clear();
  other.pool_ = nullptr;
}

void PageLease::Remove(std::vector<PageId>& pages) {
  LUKV_CHECK(pool_ != nullptr);
  std::sort(pages.begin(), pages.end());
  LUKV_CHECK(std::adjacent_find(pages.begin(), pages.end()) == pages.end());
  const size_t found =
      std::erase_if(pages_, [&](PageId page) { return std::binary_search(pages.begin(), pages.end(), page); });
  LUKV_CHECK(found == pages.size());
}

void PageLease::GiveBack(std::vector<PageId> pages) {
  if (pages.empty()) return;
  Remove(pages);
  pool_->Return(owner_, pages);
}

PageLease PageLease::Split(std::vector<PageId> pages, PageOwner owner) {
  if (pages.empty()) return PageLease();
  Remove(pages);
  pool_->ChangeOwner(owner_, owner, static_cast<uint32_t>(pages.size()));
  return PageLease(pool_, owner, std::move(pages));
}

PagePool::PagePool(uint32_t n_pages) : total_(n_pages), is_free_(n_pages, true) {
  free_.reserve(n_pages);
  for (uint32_t page = n_pages; page > 0; --page) free_.push_back(page - 1);
}

PagePool::~PagePool() { LUKV_CHECK(free_.size() == total_); }

absl::StatusOr<PageLease> PagePool::Take(uint32_t n, PageOwner owner) {
  if (n > free_.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(n, " KV pages asked for, ", free_.size(), " of ", total_, " are free"));
  }
  std::vector<PageId> pages(free_.rbegin(), free_.rbegin() + n);
  free_.resize(free_.size() - n);
  for (const PageId page : pages) is_free_[page] = false;
  used_by_[static_cast<size_t>(owner)] += n;
  return PageLease(this, owner, std::move(pages));
}

void PagePool::Return(PageOwner owner, std::span<const PageId> pages) {
  for (const PageId page : pages) {
    LUKV_CHECK(page < total_ && !is_free_[page]);
    is_free_[page] = true;
    free_.push_back(page);
  }
  LUKV_CHECK(used_by_[static_cast<size_t>(owner)] >= pages.size());
  used_by_[static_cast<size_t>(owner)] -= static_cast<uint32_t>(pages.size());
}

void PagePool::ChangeOwner(PageOwner from, PageOwner to, uint32_t n) {
  LUKV_CHECK(used_by_[static_cast<size_t>(from)] >= n);
  used_by_[static_cast<size_t>(from)] -= n;
  used_by_[static_cast<size_t>(to)] += n;
}

}  // namespace lukv
