#include "tests/server/fake_tokenizer.h"

namespace lukv {

std::vector<TokenId> Bytes(const std::string& text) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

absl::StatusOr<std::vector<TokenId>> FakeTokenizer::Encode(std::span<const TextSegment> segments, bool add_bos) const {
  std::vector<TokenId> ids;
  if (add_bos) ids.push_back(kBos);
  for (const TextSegment& segment : segments) {
    std::string_view rest = segment.text;
    while (!rest.empty()) {
      if (segment.parse_special && rest.starts_with("</s>")) {
        ids.push_back(kEnd);
        rest.remove_prefix(4);
      } else if (static_cast<unsigned char>(rest[0]) == 1) {
        return absl::InvalidArgumentError("the vocabulary has no byte 1");
      } else {
        ids.push_back(static_cast<unsigned char>(rest[0]));
        rest.remove_prefix(1);
      }
    }
  }
  return ids;
}

std::string FakeTokenizer::Piece(TokenId id, bool special) const {
  if (id < 256) return std::string(1, static_cast<char>(id));
  if (id == kHello) return "hello ";
  if (!special) return "";
  return id == kBos ? "<s>" : "</s>";
}

std::string FakeTokenizer::Decode(std::span<const TokenId> ids, bool special) const {
  std::string text;
  for (const TokenId id : ids) text += Piece(id, special);
  return text;
}

}  // namespace lukv
