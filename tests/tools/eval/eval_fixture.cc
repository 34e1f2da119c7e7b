#include "tests/tools/eval/eval_fixture.h"

#include <cstdio>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"

namespace lukv {

const EvalText& RepositoryText() {
  static const EvalText* const kText = [] {
    absl::StatusOr<EvalText> text = LoadEvalText(LUKV_EVAL_DATA);
    if (!text.ok()) {
      std::fprintf(stderr, "%s\n", text.status().ToString().c_str());
      std::abort();
    }
    return new EvalText(*std::move(text));
  }();
  return *kText;
}

TokenId WordTokenizer::Id(const std::string& piece) const {
  const auto [it, is_new] = ids_.emplace(piece, static_cast<TokenId>(pieces_.size()));
  if (is_new) pieces_.push_back(piece);
  return it->second;
}

absl::StatusOr<std::vector<TokenId>> WordTokenizer::Encode(std::span<const TextSegment> segments, bool add_bos) const {
  std::vector<TokenId> ids;
  if (add_bos) ids.push_back(0);
  for (const TextSegment& segment : segments) {
    const std::string& text = segment.text;
    const auto letter = [&](size_t i) {
      return i < text.size() && absl::ascii_isalpha(static_cast<unsigned char>(text[i]));
    };
    for (size_t i = 0; i < text.size();) {
      size_t end = i + 1;
      if (segment.parse_special && text.compare(i, 2, "<|") == 0) end = text.find("|>", i) + 2;
      if (letter(i) || (text[i] == ' ' && letter(i + 1))) {
        while (letter(end)) ++end;
      }
      ids.push_back(Id(text.substr(i, end - i)));
      i = end;
    }
  }
  return ids;
}

std::string WordTokenizer::Piece(TokenId id, bool special) const {
  return id > 1 || special ? pieces_[static_cast<size_t>(id)] : "";
}

std::string WordTokenizer::Decode(std::span<const TokenId> ids, bool special) const {
  std::string text;
  for (const TokenId id : ids) text += Piece(id, special);
  return text;
}

std::string JoinEssays(const EvalText& text) { return absl::StrJoin(text.essay_sentences, " "); }

size_t CountOf(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

bool ContainsAnyCase(const std::string& text, const std::string& part) {
  return absl::AsciiStrToLower(text).find(absl::AsciiStrToLower(part)) != std::string::npos;
}

}  // namespace lukv
