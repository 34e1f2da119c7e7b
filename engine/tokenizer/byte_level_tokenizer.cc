// Byte-level BPE as GPT-2 made it: text is cut by a regular expression, and every byte is a symbol to start with.
#include <array>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "engine/tokenizer/tokenizer_base.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

// GPT-2's printable alphabet: bytes that print stand for themselves, the others for U+0100 and up in order.
std::array<char32_t, 256> ByteAlphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet[byte] = prints ? byte : next++;
  }
  return alphabet;
}

// Tokens in the alphabet -> bytes; a token with any other character is text as it stands.
class AlphabetReader {
 public:
  AlphabetReader() {
    bytes_.fill(-1);
    const auto alphabet = ByteAlphabet();
    for (size_t byte = 0; byte < alphabet.size(); ++byte) bytes_[alphabet[byte]] = static_cast<int16_t>(byte);
  }

  std::string Read(const std::string& token) const {
    std::string bytes;
    for (std::string_view rest = token; !rest.empty();) {
      const size_t length = CodePointLength(rest);
      if (length == 0) return token;
      const char32_t c = DecodeCodePoint(rest);
      if (c >= bytes_.size() || bytes_[c] < 0) return token;
      bytes += static_cast<char>(bytes_[c]);
      rest.remove_prefix(length);
    }
    return bytes;
  }

 private:
  std::array<int16_t, 0x144> bytes_;  // The alphabet ends at U+0143.
};

std::vector<std::string> Pieces(const TokenizerData& data) {
  const AlphabetReader reader;
  std::vector<std::string> pieces(data.tokens.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    const bool in_alphabet = data.types[id] == TokenType::kNormal || data.types[id] == TokenType::kUnused;
    pieces[id] = in_alphabet ? reader.Read(data.tokens[id]) : data.tokens[id];
  }
  return pieces;
}

class ByteLevelTokenizer final : public TokenizerBase {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Make(TokenizerData data) {
    LUKV_RETURN_IF_ERROR(CheckIds(data));
    std::vector<std::string> pieces = Pieces(data);
    std::array<TokenId, 256> byte_tokens;
    byte_tokens.fill(-1);
    absl::flat_hash_map<std::string_view, TokenId> words;
    if (data.ignore_merges) words.reserve(pieces.size());
    for (size_t id = 0; id < pieces.size(); ++id) {
      if (data.types[id] != TokenType::kNormal || pieces[id].empty()) continue;
      if (pieces[id].size() == 1) byte_tokens[static_cast<uint8_t>(pieces[id][0])] = static_cast<TokenId>(id);
      if (data.ignore_merges) words.emplace(pieces[id], static_cast<TokenId>(id));
    }
    return std::unique_ptr<Tokenizer>(
        new ByteLevelTokenizer(std::move(data), std::move(pieces), byte_tokens, std::move(words)));
  }

 protected:
  absl::Status EncodeStretch(std::string_view text, size_t offset, Run& run) const override {
    for (size_t start = 0; start < text.size();) {
      const size_t valid = ValidUtf8Prefix(text.substr(start));
      if (valid > 0) {
        EncodeUtf8(text.substr(start, valid), run);
        start += valid;
        continue;
      }
      const auto byte = static_cast<uint8_t>(text[start]);
      if (byte_tokens_[byte] < 0) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "byte 0x%02X at offset %d is not UTF-8, and the vocabulary has no token for it", byte, offset + start));
      }
      run.ids.push_back(byte_tokens_[byte]);
      ++start;
    }
    return absl::OkStatus();
  }

  // Like `tokenizers`, leaves out a byte that has no token: small vocabularies lack some that text hardly ever has.
  void InitialSymbols(std::string_view word, std::vector<int32_t>& symbols) const override {
    if (const auto it = words_.find(word); it != words_.end()) {
      symbols.push_back(it->second);
      return;
    }
    for (const char byte : word) {
      const TokenId token = byte_tokens_[static_cast<uint8_t>(byte)];
      if (token >= 0) symbols.push_back(token);
    }
  }

  void EmitSymbols(std::span<const int32_t> symbols, std::vector<TokenId>& ids) const override {
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  }

 private:
  ByteLevelTokenizer(TokenizerData data, std::vector<std::string> pieces, const std::array<TokenId, 256>& byte_tokens,
                     absl::flat_hash_map<std::string_view, TokenId> words)
      : TokenizerBase(std::move(data), std::move(pieces)),
        pre_tokenizer_(this->data().pre_tokenizer),
        byte_tokens_(byte_tokens),
        words_(std::move(words)) {}

  void EncodeUtf8(std::string_view text, Run& run) const {
    if (data().nfc) text = run.texts.emplace_back(NormalizeNfc(text));
    pre_tokenizer_.Split(text, [&](std::string_view word) { EncodeWord(word, run); });
  }

  const PreTokenizer pre_tokenizer_;
  const std::array<TokenId, 256> byte_tokens_;                  // -1: the vocabulary lacks it.
  const absl::flat_hash_map<std::string_view, TokenId> words_;  // Views of the pieces; empty unless ignore_merges.
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteLevelTokenizer(TokenizerData data) {
  return ByteLevelTokenizer::Make(std::move(data));
}

}  // namespace lukv
