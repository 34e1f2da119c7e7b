// What a tokenizer is made of, whatever kind of file it came from.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// The numbers of SentencePiece's ModelProto and of GGUF's tokenizer.ggml.token_type.
enum class TokenType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// A token that is found in a text before anything else happens to it.
struct AddedToken {
  TokenId id = 0;
  bool strip_left = false;  // Swallows the white space before it.
  bool strip_right = false;
};

// Whether "▁" goes in front of a stretch of text between special tokens (SentencePiece only).
enum class SpacePrefix : uint8_t {
  kNever,
  kEach,           // Every stretch, as SentencePiece does to its input and Hugging Face's Prepend to each stretch.
  kEachUnlessOne,  // Likewise, but not when there is one already (Metaspace, prepend_scheme "always").
  kFirstUnlessOne  // Only the stretch that starts the text (Metaspace, prepend_scheme "first").
};

enum class TokenizerKind : uint8_t { kByteLevel, kSentencePiece };

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::kByteLevel;
  // By id. Byte-level vocabularies are in the printable alphabet of GPT-2, except types that are written out
  // (everything but kNormal and kUnused). SentencePiece: "▁" is a space, kByte is "<0x0A>". Empty: no such token.
  std::vector<std::string> tokens;
  std::vector<TokenType> types;  // As many as tokens.
  std::vector<AddedToken> added;
  TokenId bos = -1;
  std::vector<TokenId> end_tokens;
  bool adds_bos = false;
  std::string chat_template;

  MergeTable merges;

  // Byte-level only.
  PreTokenizerKind pre_tokenizer = PreTokenizerKind::kGpt2;
  bool nfc = false;
  bool ignore_merges = false;  // A pre-token that is in the vocabulary is that token, whatever the merges say.

  // SentencePiece only.
  SpacePrefix space_prefix = SpacePrefix::kEach;
};

// Makes token `id` this text and type. INVALID_ARGUMENT: the id has another text already, or is so far above `entries`,
// the number of tokens that the file lists, that the vocabulary would be mostly holes.
absl::Status SetToken(TokenId id, std::string text, TokenType type, size_t entries, TokenizerData& data);

// The id of `text`; INVALID_ARGUMENT, naming `what` wanted it, when there is none.
absl::StatusOr<TokenId> FindToken(const TokenizerData& data, std::string_view text, const char* what);

// Appends to data.end_tokens unless it is there.
void AddEndToken(TokenId id, TokenizerData& data);

// Makes every special and user-defined token one that is found in texts.
void CollectAddedTokens(TokenizerData& data);

// Ids by text. INVALID_ARGUMENT: the same text twice. REQUIRES: data.tokens does not change after.
using VocabularyIndex = absl::flat_hash_map<std::string_view, TokenId>;
absl::StatusOr<VocabularyIndex> IndexVocabulary(const TokenizerData& data);

// Adds the rule "left right" of rank `rank` to data.merges. INVALID_ARGUMENT: a part or the whole is not in the
// vocabulary, or the pair has a rule already.
absl::Status AddMerge(const VocabularyIndex& index, std::string_view left, std::string_view right, uint32_t rank,
                      TokenizerData& data);
// The same from "left right".
absl::Status AddMerge(const VocabularyIndex& index, std::string_view pair, uint32_t rank, TokenizerData& data);

// SentencePiece's merges: any two neighbours may merge whose text together is a token, the highest score first.
// `scores` by id. A neighbour may be a code point without a token.
absl::Status AddMergesByScore(const VocabularyIndex& index, std::span<const float> scores, TokenizerData& data);
// The symbol that stands for a code point without a token while merging.
inline int32_t SymbolOfUnknown(char32_t code_point) { return -1 - static_cast<int32_t>(code_point); }
inline char32_t UnknownOfSymbol(int32_t symbol) { return static_cast<char32_t>(-1 - symbol); }

// Makes the tokenizer of data.kind. INVALID_ARGUMENT: an id outside the vocabulary.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerData data);
// The two that it chooses from.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteLevelTokenizer(TokenizerData data);
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(TokenizerData data);

}  // namespace lukv
