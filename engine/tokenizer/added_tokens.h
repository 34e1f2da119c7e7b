// Finds special and user-defined tokens that are written out in a text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/tokenizer/tokenizer_data.h"

namespace lukv {

// Immutable; safe to use from any thread.
class AddedTokenMatcher {
 public:
  struct Match {
    const AddedToken* token;
    size_t length;  // Bytes of its text.
  };

  // REQUIRES: every added id is in data.tokens and its text is not empty.
  explicit AddedTokenMatcher(const TokenizerData& data);

  // The longest token that starts at text[position]. Special ones only if they end at or before `special_end`.
  std::optional<Match> At(std::string_view text, size_t position, size_t special_end) const;

 private:
  struct Node {
    int32_t token = -1;  // Index into tokens_ of the token that ends here.
    bool special = false;
  };
  static uint64_t Edge(size_t node, char byte) { return node << 8 | static_cast<uint8_t>(byte); }

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  absl::flat_hash_map<uint64_t, size_t> edges_;  // node << 8 | byte -> node
  std::array<bool, 256> starts_{};               // Bytes that some token starts with.
};

}  // namespace lukv
