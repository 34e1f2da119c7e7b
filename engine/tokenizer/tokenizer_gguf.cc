// Tokenizers from GGUF metadata (keys: ggml docs/gguf.md; behaviour where a key is missing: llama.cpp).
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer_data.h"
#include "engine/tokenizer/tokenizer_files.h"

namespace lukv {
namespace {

// Control tokens that end a turn or a text in the families that lukv serves. Many files name only one of them as eos.
constexpr std::array<std::string_view, 5> kEndTexts = {"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end_of_text|>",
                                                       "<|endoftext|>"};

// The value of a key, or `fallback` when the file lacks it.
absl::StatusOr<bool> BoolOr(const GgufFile& file, std::string_view key, bool fallback) {
  return file.Has(key) ? file.GetBool(key) : fallback;
}

absl::StatusOr<TokenId> IdOr(const GgufFile& file, const char* key, size_t vocabulary, TokenId fallback) {
  if (!file.Has(key)) return fallback;
  LUKV_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  if (id < 0 || id >= static_cast<int64_t>(vocabulary)) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, " is ", id, ", outside the vocabulary of ", vocabulary, " tokens"));
  }
  return static_cast<TokenId>(id);
}

absl::Status ReadVocabulary(const GgufFile& file, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, file.GetStrings("tokenizer.ggml.tokens"));
  data.tokens.assign(tokens.begin(), tokens.end());
  data.types.assign(tokens.size(), TokenType::kNormal);
  constexpr const char* kTypes = "tokenizer.ggml.token_type";
  if (!file.Has(kTypes)) return absl::OkStatus();
  LUKV_ASSIGN_OR_RETURN(const std::vector<int64_t> types, file.GetInts(kTypes));
  if (types.size() != tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(kTypes, " has ", types.size(), " entries for ", tokens.size(), " tokens"));
  }
  for (size_t id = 0; id < types.size(); ++id) {
    if (types[id] < 1 || types[id] > 6) {
      return absl::InvalidArgumentError(
          absl::StrCat(kTypes, " of token ", id, " is ", types[id], ", 1 to 6 is allowed"));
    }
    data.types[id] = static_cast<TokenType>(types[id]);
  }
  return absl::OkStatus();
}

absl::Status ReadEndTokens(const GgufFile& file, TokenizerData& data) {
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    LUKV_ASSIGN_OR_RETURN(const TokenId id, IdOr(file, key, data.tokens.size(), -1));
    if (id >= 0) AddEndToken(id, data);
  }
  for (const AddedToken& token : data.added) {
    const bool ends = std::find(kEndTexts.begin(), kEndTexts.end(), data.tokens[token.id]) != kEndTexts.end();
    if (ends && data.types[token.id] == TokenType::kControl) AddEndToken(token.id, data);
  }
  return absl::OkStatus();
}

absl::Status ReadByteLevel(const GgufFile& file, TokenizerData& data) {
  data.kind = TokenizerKind::kByteLevel;
  LUKV_ASSIGN_OR_RETURN(const std::string_view name, file.GetString("tokenizer.ggml.pre"));
  const auto kind = PreTokenizerByName(name);
  if (!kind) {
    return absl::UnimplementedError(
        absl::StrCat("pre-tokenizer ", Quoted(name), " is not supported; supported: ", SupportedPreTokenizers()));
  }
  data.pre_tokenizer = *kind;
  // The metadata does not say these two; they belong to the families' tokenizer.json.
  data.ignore_merges = *kind == PreTokenizerKind::kLlama3;
  data.nfc = *kind == PreTokenizerKind::kQwen2;
  LUKV_ASSIGN_OR_RETURN(data.adds_bos,
                        BoolOr(file, "tokenizer.ggml.add_bos_token", *kind == PreTokenizerKind::kLlama3));

  LUKV_ASSIGN_OR_RETURN(const VocabularyIndex index, IndexVocabulary(data));
  LUKV_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, file.GetStrings("tokenizer.ggml.merges"));
  data.merges.Reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    LUKV_RETURN_IF_ERROR(AddMerge(index, merges[rank], static_cast<uint32_t>(rank), data));
  }
  return absl::OkStatus();
}

absl::Status ReadSentencePiece(const GgufFile& file, TokenizerData& data) {
  data.kind = TokenizerKind::kSentencePiece;
  LUKV_ASSIGN_OR_RETURN(data.adds_bos, BoolOr(file, "tokenizer.ggml.add_bos_token", true));
  LUKV_ASSIGN_OR_RETURN(const bool prefix, BoolOr(file, "tokenizer.ggml.add_space_prefix", true));
  data.space_prefix = prefix ? SpacePrefix::kEach : SpacePrefix::kNever;
  LUKV_ASSIGN_OR_RETURN(const std::vector<float> scores, file.GetFloats("tokenizer.ggml.scores"));
  LUKV_ASSIGN_OR_RETURN(const VocabularyIndex index, IndexVocabulary(data));
  return AddMergesByScore(index, scores, data);
}

}  // namespace

absl::StatusOr<TokenizerData> ReadGgufTokenizer(const GgufFile& file) {
  LUKV_ASSIGN_OR_RETURN(const std::string_view model, file.GetString("tokenizer.ggml.model"));
  if (model != "gpt2" && model != "llama") {
    return absl::UnimplementedError(absl::StrCat("tokenizer model ", Quoted(model),
                                                 " is not supported; supported: gpt2 (byte-level BPE), llama "
                                                 "(SentencePiece BPE)"));
  }
  TokenizerData data;
  LUKV_RETURN_IF_ERROR(ReadVocabulary(file, data));
  CollectAddedTokens(data);
  LUKV_RETURN_IF_ERROR(ReadEndTokens(file, data));
  LUKV_ASSIGN_OR_RETURN(data.bos, IdOr(file, "tokenizer.ggml.bos_token_id", data.tokens.size(), -1));
  if (file.Has("tokenizer.chat_template")) {
    LUKV_ASSIGN_OR_RETURN(data.chat_template, file.GetString("tokenizer.chat_template"));
  }
  LUKV_RETURN_IF_ERROR(model == "gpt2" ? ReadByteLevel(file, data) : ReadSentencePiece(file, data));
  return data;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromGguf(const GgufFile& file) {
  LUKV_ASSIGN_OR_RETURN(TokenizerData data, ReadGgufTokenizer(file));
  return MakeTokenizer(std::move(data));
}

}  // namespace lukv
