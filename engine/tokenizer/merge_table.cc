#include "engine/tokenizer/merge_table.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "base/check.h"

namespace lukv {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();

}  // namespace

bool MergeTable::Add(int32_t left, int32_t right, uint32_t rank, int32_t result) {
  LUKV_CHECK(rank != kNoRank);
  return rules_.emplace(Key(left, right), Rule{rank, result}).second;
}

// A linked list of symbols and a heap of candidate pairs. A heap entry is stale when the pair that starts at its
// position no longer has its rank; stale entries are dropped when they come up.
void MergeTable::Merge(std::vector<int32_t>& symbols, Scratch& scratch) const {
  const int32_t n = static_cast<int32_t>(symbols.size());
  LUKV_CHECK(symbols.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()));
  if (n < 2) return;
  std::vector<int32_t>& previous = scratch.previous;
  std::vector<int32_t>& next = scratch.next;
  std::vector<uint32_t>& rank = scratch.rank;
  std::vector<int32_t>& result = scratch.result;
  std::vector<uint64_t>& heap = scratch.heap;
  previous.resize(symbols.size());
  next.resize(symbols.size());
  rank.resize(symbols.size());
  result.resize(symbols.size());
  heap.clear();

  // Looks up the pair that starts at `left`; true when it has a rule.
  const auto look_up = [&](int32_t left) {
    rank[left] = kNoRank;
    const int32_t right = next[left];
    if (right == n) return false;
    const auto it = rules_.find(Key(symbols[left], symbols[right]));
    if (it == rules_.end()) return false;
    rank[left] = it->second.rank;
    result[left] = it->second.result;
    return true;
  };
  const auto entry = [&](int32_t left) {
    return static_cast<uint64_t>(rank[left]) << 32 | static_cast<uint32_t>(left);
  };

  for (int32_t i = 0; i < n; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
    if (look_up(i)) heap.push_back(entry(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const int32_t left = static_cast<int32_t>(top & 0xFFFFFFFF);
    if (rank[left] != top >> 32) continue;
    const int32_t right = next[left];
    symbols[left] = result[left];
    rank[right] = kNoRank;
    next[left] = next[right];
    if (next[left] != n) previous[next[left]] = left;
    for (const int32_t changed : {previous[left], left}) {
      if (changed >= 0 && look_up(changed)) {
        heap.push_back(entry(changed));
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
      }
    }
  }

  size_t kept = 0;
  for (int32_t i = 0; i < n; i = next[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace lukv
