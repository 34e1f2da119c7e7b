// Hands out KV pages by id. Knows nothing of sequences, heads or bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kv_types.h"

namespace lukv {

// What holds a page, for accounting only.
enum class PageOwner : uint8_t { kSequence, kContext };
inline constexpr int kPageOwners = 2;

class PagePool;

// Pages that their holder alone may write. Gives them back when it goes. Move-only.
class PageLease {
 public:
  PageLease() = default;
  PageLease(PageLease&& other) noexcept;
  PageLease& operator=(PageLease&& other) noexcept;
  PageLease(const PageLease&) = delete;
  PageLease& operator=(const PageLease&) = delete;
  ~PageLease();

  std::span<const PageId> pages() const { return pages_; }
  // Takes over the pages of `other`. REQUIRES: the same pool and owner, or either is empty.
  void Absorb(PageLease other);
  // Gives these pages back and keeps the others. REQUIRES: all are of this lease, none twice.
  void GiveBack(std::vector<PageId> pages);
  // Hands these pages over to a lease of their own, held for `owner`. REQUIRES: as for GiveBack.
  PageLease Split(std::vector<PageId> pages, PageOwner owner);

 private:
  friend class PagePool;
  PageLease(PagePool* pool, PageOwner owner, std::vector<PageId> pages)
      : pool_(pool), owner_(owner), pages_(std::move(pages)) {}
  void Release();
  void Remove(std::vector<PageId>& pages);  // Sorts them.

  PagePool* pool_ = nullptr;
  PageOwner owner_ = PageOwner::kSequence;
  std::vector<PageId> pages_;
};

// Not thread-safe: belongs to the engine thread.
class PagePool {
 public:
  explicit PagePool(uint32_t n_pages);
  // CHECKs that every page came back.
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // Last in, first out, so that warm pages are used again. RESOURCE_EXHAUSTED with the sums; takes nothing then.
  absl::StatusOr<PageLease> Take(uint32_t n, PageOwner owner);

  uint32_t total() const { return total_; }
  uint32_t free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t used() const { return total_ - free(); }
  uint32_t used_by(PageOwner owner) const { return used_by_[static_cast<size_t>(owner)]; }

 private:
  friend class PageLease;
  void Return(PageOwner owner, std::span<const PageId> pages);
  void ChangeOwner(PageOwner from, PageOwner to, uint32_t n);

  const uint32_t total_;
  std::vector<PageId> free_;
  std::vector<bool> is_free_;  // Catches a page that is given back twice.
  std::array<uint32_t, kPageOwners> used_by_{};
};

}  // namespace lukv
