// One token per byte, plus a few that are not: a vocabulary that a reader of a test has in the head.
#pragma once

#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace lukv {

class FakeTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256;    // "<s>"
  static constexpr TokenId kEnd = 257;    // "</s>"
  static constexpr TokenId kHello = 258;  // "hello "
  static constexpr int32_t kVocabulary = 259;

  explicit FakeTokenizer(std::string chat_template = "") : chat_template_(std::move(chat_template)) {}

  absl::StatusOr<std::vector<TokenId>> Encode(std::span<const TextSegment> segments, bool add_bos) const override;
  std::string Piece(TokenId id, bool special) const override;
  std::string Decode(std::span<const TokenId> ids, bool special) const override;
  int32_t vocabulary() const override { return kVocabulary; }
  TokenId bos() const override { return kBos; }
  const std::vector<TokenId>& end_tokens() const override { return end_tokens_; }
  bool IsSpecial(TokenId id) const override { return id == kBos || id == kEnd; }
  bool adds_bos() const override { return true; }
  const std::string& chat_template() const override { return chat_template_; }

 private:
  const std::vector<TokenId> end_tokens_ = {kEnd};
  const std::string chat_template_;
};

// The bytes of `text` as tokens.
std::vector<TokenId> Bytes(const std::string& text);

}  // namespace lukv
