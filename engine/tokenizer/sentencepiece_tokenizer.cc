// SentencePiece's BPE: symbols are code points, spaces are "▁", what has no token becomes byte tokens.
#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/tokenizer/tokenizer_base.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// "<0x0A>" -> 10.
absl::StatusOr<uint8_t> ByteOf(TokenId id, std::string_view token) {
  uint8_t byte = 0;
  const bool framed = token.size() == 6 && token.starts_with("<0x") && token.ends_with(">");
  const char* digits = token.data() + 3;
  if (!framed || std::from_chars(digits, digits + 2, byte, 16).ptr != digits + 2) {
    return absl::InvalidArgumentError(absl::StrCat("byte token ", id, " is ", Quoted(token), ", not like <0x0A>"));
  }
  return byte;
}

// Whether a word's end shows in the text: no token has "▁" behind anything but "▁", so nothing merges across.
bool SpacesStartWords(const TokenizerData& data) {
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] != TokenType::kNormal) continue;
    std::string_view rest = data.tokens[id];
    while (rest.starts_with(kSpace)) rest.remove_prefix(kSpace.size());
    if (rest.find(kSpace) != std::string_view::npos) return false;
  }
  return true;
}

class SentencePieceTokenizer final : public TokenizerBase {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(TokenizerData data) {
    LUKV_RETURN_IF_ERROR(CheckIds(data));
    Tables tables;
    tables.bytes.fill(-1);
    std::vector<std::string> pieces(data.tokens.size());
    for (size_t i = 0; i < pieces.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      const std::string& token = data.tokens[i];
      pieces[i] = token;
      if (data.types[i] == TokenType::kByte) {
        LUKV_ASSIGN_OR_RETURN(const uint8_t byte, ByteOf(id, token));
        tables.bytes[byte] = id;
        pieces[i] = static_cast<char>(byte);
      } else if (data.types[i] == TokenType::kNormal) {
        pieces[i] = absl::StrReplaceAll(token, {{"\xE2\x96\x81", " "}});
        const bool one = !token.empty() && CodePointLength(token) == token.size();
        if (one) tables.code_points.emplace(DecodeCodePoint(token), id);
      }
    }
    for (size_t byte = 0; byte < tables.bytes.size(); ++byte) {
      if (tables.bytes[byte] < 0) {
        return absl::UnimplementedError(absl::StrCat("a SentencePiece vocabulary without all 256 byte tokens is not ",
                                                     "supported; the one for ", byte, " is missing"));
      }
    }
    tables.spaces_start_words = SpacesStartWords(data);
    return std::unique_ptr<Tokenizer>(
        new SentencePieceTokenizer(std::move(data), std::move(pieces), std::move(tables)));
  }

  std::string Decode(std::span<const TokenId> ids, bool special) const override {
    std::string text = TokenizerBase::Decode(ids, special);
    if (data().space_prefix != SpacePrefix::kNever && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }

 protected:
  absl::Status EncodeStretch(std::string_view text, size_t offset, Run& run) const override {
    std::string& escaped = run.texts.emplace_back();
    escaped.reserve(text.size() + text.size() / 2);
    const bool has_space = text.starts_with(' ') || text.starts_with(kSpace);
    if (WantsSpace(offset, has_space)) escaped += kSpace;
    for (const char c : text) {
      if (c == ' ') {
        escaped += kSpace;
      } else {
        escaped += c;
      }
    }
    for (std::string_view rest = escaped; !rest.empty();) {
      const size_t valid = ValidUtf8Prefix(rest);
      if (valid > 0) {
        EncodeUtf8(rest.substr(0, valid), run);
        rest.remove_prefix(valid);
      } else {
        run.ids.push_back(tables_.bytes[static_cast<uint8_t>(rest[0])]);
        rest.remove_prefix(1);
      }
    }
    return absl::OkStatus();
  }

  void InitialSymbols(std::string_view word, std::vector<int32_t>& symbols) const override {
    while (!word.empty()) {
      const char32_t c = DecodeCodePoint(word);
      const auto it = tables_.code_points.find(c);
      symbols.push_back(it != tables_.code_points.end() ? it->second : SymbolOfUnknown(c));
      word.remove_prefix(CodePointLength(word));
    }
  }

  void EmitSymbols(std::span<const int32_t> symbols, std::vector<TokenId>& ids) const override {
    std::string utf8;
    for (const int32_t symbol : symbols) {
      if (symbol >= 0) {
        ids.push_back(symbol);
        continue;
      }
      utf8.clear();
      AppendUtf8(UnknownOfSymbol(symbol), utf8);
      for (const char byte : utf8) ids.push_back(tables_.bytes[static_cast<uint8_t>(byte)]);
    }
  }

 private:
  struct Tables {
    std::array<TokenId, 256> bytes;
    absl::flat_hash_map<char32_t, TokenId> code_points;
    bool spaces_start_words = false;
  };

  SentencePieceTokenizer(TokenizerData data, std::vector<std::string> pieces, Tables tables)
      : TokenizerBase(std::move(data), std::move(pieces)), tables_(std::move(tables)) {}

  bool WantsSpace(size_t offset, bool has_space) const {
    switch (data().space_prefix) {
      case SpacePrefix::kNever:
        return false;
      case SpacePrefix::kEach:
        return true;
      case SpacePrefix::kEachUnlessOne:
        return !has_space;
      case SpacePrefix::kFirstUnlessOne:
        return offset == 0 && !has_space;
    }
    return false;
  }

  void EncodeUtf8(std::string_view text, Run& run) const {
    while (tables_.spaces_start_words && !text.empty()) {
      size_t end = 0;
      while (text.substr(end).starts_with(kSpace)) end += kSpace.size();
      end = std::min(text.find(kSpace, end), text.size());
      EncodeWord(text.substr(0, end), run);
      text.remove_prefix(end);
    }
    if (!text.empty()) EncodeWord(text, run);
  }

  const Tables tables_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(TokenizerData data) {
  return SentencePieceTokenizer::Make(std::move(data));
}

}  // namespace lukv
