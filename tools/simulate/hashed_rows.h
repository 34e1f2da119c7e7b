// Where the modelled backend's hashes lie. Shared by its ops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/args.h"
#include "tools/simulate/random.h"

namespace lukv::modelled {

inline uint64_t Load(const void* at) {
  uint64_t hash;
  std::memcpy(&hash, at, sizeof(hash));
  return hash;
}
inline void Store(void* at, uint64_t hash) { std::memcpy(at, &hash, sizeof(hash)); }

inline uint64_t RowHash(const ConstMatrix& m, int64_t row) { return Load(m.row<float>(row)); }
inline void SetRow(const Matrix& m, int64_t row, uint64_t hash) { Store(m.row<float>(row), hash); }

// What an entry adds to attention: of K and V that belong together.
inline uint64_t EntryTerm(uint64_t k, uint64_t v) { return k * (v | 1); }

inline size_t KvRowBytes(DType dtype, int32_t head_dim) {
  return static_cast<size_t>(head_dim) * static_cast<size_t>(Traits(dtype).block_bytes);
}

// K and V of one kv head in staging, by row.
class StagedHead {
 public:
  StagedHead(const StagingView& staging, int32_t head)
      : row_bytes_(KvRowBytes(staging.dtype, staging.head_dim)),
        k_(static_cast<std::byte*>(staging.k) + Offset(staging, head)),
        v_(static_cast<std::byte*>(staging.v) + Offset(staging, head)) {}

  std::byte* k(int64_t row) const { return k_ + static_cast<size_t>(row) * row_bytes_; }
  std::byte* v(int64_t row) const { return v_ + static_cast<size_t>(row) * row_bytes_; }
  uint64_t Term(int64_t row) const { return EntryTerm(Load(k(row)), Load(v(row))); }
  size_t row_bytes() const { return row_bytes_; }

 private:
  size_t Offset(const StagingView& staging, int32_t head) const {
    return static_cast<size_t>(head) * static_cast<size_t>(staging.capacity) * row_bytes_;
  }
  size_t row_bytes_;
  std::byte* k_;
  std::byte* v_;
};

// The entries of one (slot, layer, kv head), by number.
class PagedHead {
 public:
  PagedHead(const PageTableView& table, const PageStoreView& pages, int32_t slot, int32_t layer, int32_t head)
      : row_bytes_(KvRowBytes(pages.dtype, pages.head_dim)),
        page_tokens_(pages.page_tokens),
        base_(static_cast<std::byte*>(pages.base)) {
    const size_t index =
        (static_cast<size_t>(slot) * static_cast<size_t>(table.n_layers) + static_cast<size_t>(layer)) *
            static_cast<size_t>(table.n_kv_heads) +
        static_cast<size_t>(head);
    pages_ = table.arena + table.offset[index];
    kept_ = table.kept[index];
    length_ = kept_ + table.generated[slot];
  }

  int32_t kept() const { return kept_; }
  int32_t length() const { return length_; }
  std::byte* k(int32_t entry) const {
    const size_t page = pages_[entry / page_tokens_];
    return base_ +
           (page * 2 * static_cast<size_t>(page_tokens_) + static_cast<size_t>(entry % page_tokens_)) * row_bytes_;
  }
  std::byte* v(int32_t entry) const { return k(entry) + static_cast<size_t>(page_tokens_) * row_bytes_; }
  // Of entries [begin, end).
  uint64_t Sum(int32_t begin, int32_t end) const {
    uint64_t sum = 0;
    while (begin < end) {
      const int32_t page_end = begin - begin % page_tokens_ + page_tokens_;
      const std::byte* k_row = k(begin);
      const std::byte* v_row = v(begin);
      for (const int32_t stop = page_end < end ? page_end : end; begin < stop; ++begin) {
        sum += EntryTerm(Load(k_row), Load(v_row));
        k_row += row_bytes_;
        v_row += row_bytes_;
      }
    }
    return sum;
  }

 private:
  size_t row_bytes_;
  int32_t page_tokens_;
  std::byte* base_;
  const PageId* pages_;
  int32_t kept_;
  int32_t length_;
};

}  // namespace lukv::modelled
