// Byte-pair merging: the lowest-ranked pair of neighbours first, the leftmost of equals, until none is left.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace lukv {

class MergeTable {
 public:
  // Buffers that a caller keeps between calls.
  struct Scratch {
    std::vector<int32_t> previous;
    std::vector<int32_t> next;
    std::vector<uint32_t> rank;   // Of the pair that starts here; kNoRank when none.
    std::vector<int32_t> result;  // Of the same pair.
    std::vector<uint64_t> heap;   // rank << 32 | position
  };

  void Reserve(size_t rules) { rules_.reserve(rules); }
  // False when the pair has a rule already. REQUIRES: rank < 2^32 - 1.
  bool Add(int32_t left, int32_t right, uint32_t rank, int32_t result);

  // Merges in place; O(n log n). REQUIRES: fewer than 2^31 symbols.
  void Merge(std::vector<int32_t>& symbols, Scratch& scratch) const;

 private:
  struct Rule {
    uint32_t rank;
    int32_t result;
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  absl::flat_hash_map<uint64_t, Rule> rules_;
};

}  // namespace lukv
