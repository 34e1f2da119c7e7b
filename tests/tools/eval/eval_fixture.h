// What tests of the evaluation share: the texts of the repository, and a tokenizer that a reader can count with.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tools/eval/text.h"

namespace lukv {

// tools/eval/data, read once.
const EvalText& RepositoryText();

// A token is a word of letters, a digit, a single space in front of a word included in it, or any other byte. Special
// tokens are "<|im_start|>" and "<|im_end|>".
class WordTokenizer final : public Tokenizer {
 public:
  explicit WordTokenizer(std::string chat_template = "") : chat_template_(std::move(chat_template)) {}

  absl::StatusOr<std::vector<TokenId>> Encode(std::span<const TextSegment> segments, bool add_bos) const override;
  std::string Piece(TokenId id, bool special) const override;
  std::string Decode(std::span<const TokenId> ids, bool special) const override;
  int32_t vocabulary() const override { return 1 << 20; }
  TokenId bos() const override { return 0; }
  const std::vector<TokenId>& end_tokens() const override { return end_tokens_; }
  bool IsSpecial(TokenId id) const override { return id == 0; }
  bool adds_bos() const override { return true; }
  const std::string& chat_template() const override { return chat_template_; }

 private:
  TokenId Id(const std::string& piece) const;

  const std::vector<TokenId> end_tokens_ = {1};
  const std::string chat_template_;
  // Grows with the texts seen; tests are single-threaded.
  mutable std::vector<std::string> pieces_ = {"<s>", "</s>"};
  mutable std::map<std::string, TokenId> ids_;
};

// All essays as one text.
std::string JoinEssays(const EvalText& text);

// Non-overlapping occurrences.
size_t CountOf(const std::string& text, const std::string& part);

// Without regard to the case of ASCII letters.
bool ContainsAnyCase(const std::string& text, const std::string& part);

}  // namespace lukv
