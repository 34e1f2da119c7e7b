#include "engine/tokenizer/added_tokens.h"

namespace lukv {

AddedTokenMatcher::AddedTokenMatcher(const TokenizerData& data) : tokens_(data.added), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const TokenId id = tokens_[i].id;
    const std::string& text = data.tokens[id];
    size_t node = 0;
    for (const char byte : text) {
      const auto [it, is_new] = edges_.emplace(Edge(node, byte), nodes_.size());
      if (is_new) nodes_.emplace_back();
      node = it->second;
    }
    starts_[static_cast<uint8_t>(text[0])] = true;
    nodes_[node] = {.token = static_cast<int32_t>(i), .special = data.types[id] != TokenType::kUserDefined};
  }
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::At(std::string_view text, size_t position,
                                                              size_t special_end) const {
  if (!starts_[static_cast<uint8_t>(text[position])]) return std::nullopt;
  std::optional<Match> longest;
  size_t node = 0;
  for (size_t end = position; end < text.size();) {
    const auto it = edges_.find(Edge(node, text[end]));
    if (it == edges_.end()) break;
    node = it->second;
    ++end;
    if (nodes_[node].token >= 0 && (!nodes_[node].special || end <= special_end)) {
      longest = Match{&tokens_[nodes_[node].token], end - position};
    }
  }
  return longest;
}

}  // namespace lukv
