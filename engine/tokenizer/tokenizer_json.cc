// Hugging Face's tokenizer.json. The structure is recognised, not interpreted: those of GPT-2, SmolLM, Llama 3 and
// Qwen2 (byte-level) and of Llama 2 and Mistral (SentencePiece converted).
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/tokenizer/json_fields.h"
#include "engine/tokenizer/tokenizer_files.h"

namespace lukv {
namespace {

using Json = nlohmann::json;

constexpr char kUnderline[] = "\xE2\x96\x81";  // U+2581

// True when `object` has `key` with exactly `value`.
bool Has(const Json& object, const char* key, const Json& value) {
  const Json* found = FindMember(object, key);
  return found != nullptr && *found == value;
}

std::string TypeOf(const Json* object) {
  if (object == nullptr) return "none";
  const Json* type = FindMember(*object, "type");
  return type != nullptr && type->is_string() ? type->get<std::string>() : "of unknown type";
}

// The steps of a Sequence, or the one step that stands there; empty for none.
absl::StatusOr<std::vector<const Json*>> Steps(const Json* object, const char* list, const char* where) {
  std::vector<const Json*> steps;
  if (object == nullptr) return steps;
  if (TypeOf(object) != "Sequence") return std::vector<const Json*>{object};
  LUKV_ASSIGN_OR_RETURN(const Json* sequence, GetArray(*object, list, where));
  for (const Json& step : *sequence) steps.push_back(&step);
  return steps;
}

absl::Status Unsupported(const char* where, const std::vector<const Json*>& steps, const char* supported) {
  std::string found;
  for (const Json* step : steps) {
    absl::StrAppend(&found, found.empty() ? "" : " + ", TypeOf(step));
    const Json* pattern = FindMember(*step, "pattern");
    const Json* regex = pattern != nullptr ? FindMember(*pattern, "Regex") : nullptr;
    if (regex != nullptr) absl::StrAppend(&found, " ", Shown(*regex));
  }
  return absl::UnimplementedError(absl::StrCat(where, " (", found.empty() ? "none" : found,
                                               ") is not one that lukv knows; supported: ", supported));
}

bool IsByteToken(std::string_view token) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with(">") &&
         kHex.find(token[3]) != std::string_view::npos && kHex.find(token[4]) != std::string_view::npos;
}

absl::Status ReadVocabulary(const Json& model, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const Json* vocab, GetObject(model, "vocab", "model"));
  for (const auto& [text, value] : vocab->items()) {
    LUKV_ASSIGN_OR_RETURN(const TokenId id, AsTokenId(value, absl::StrCat("token ", Quoted(text))));
    const bool is_byte = data.kind == TokenizerKind::kSentencePiece && IsByteToken(text);
    LUKV_RETURN_IF_ERROR(SetToken(id, text, is_byte ? TokenType::kByte : TokenType::kNormal, vocab->size(), data));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const Json& root, TokenizerData& data) {
  if (FindMember(root, "added_tokens") == nullptr) return absl::OkStatus();
  LUKV_ASSIGN_OR_RETURN(const Json* added, GetArray(root, "added_tokens", "tokenizer"));
  for (const Json& entry : *added) {
    const Json* number = FindMember(entry, "id");
    if (number == nullptr) return absl::InvalidArgumentError("an added token has no id");
    LUKV_ASSIGN_OR_RETURN(const TokenId id, AsTokenId(*number, "an added token"));
    LUKV_RETURN_IF_ERROR(ReadAddedToken(entry, id, data));
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const Json& model, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const Json* merges, GetArray(model, "merges", "model"));
  LUKV_ASSIGN_OR_RETURN(const VocabularyIndex index, IndexVocabulary(data));
  data.merges.Reserve(merges->size());
  uint32_t rank = 0;
  for (const Json& merge : *merges) {
    if (merge.is_string()) {
      LUKV_RETURN_IF_ERROR(AddMerge(index, merge.get_ref<const std::string&>(), rank, data));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      LUKV_RETURN_IF_ERROR(
          AddMerge(index, merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(), rank, data));
    } else {
      return absl::InvalidArgumentError(absl::StrCat("merge ", rank, " is ", Shown(merge), ", not two tokens"));
    }
    ++rank;
  }
  return absl::OkStatus();
}

std::optional<PreTokenizerKind> RecognisePreTokenizer(const std::vector<const Json*>& steps) {
  if (steps.empty() || TypeOf(steps.back()) != "ByteLevel" || Has(*steps.back(), "add_prefix_space", true)) {
    return std::nullopt;
  }
  const bool gpt2_pattern = !Has(*steps.back(), "use_regex", false);
  if (steps.size() == 1) return gpt2_pattern ? std::optional(PreTokenizerKind::kGpt2) : std::nullopt;
  if (steps.size() != 2) return std::nullopt;
  const Json& first = *steps[0];
  if (gpt2_pattern) {
    const bool digits = TypeOf(&first) == "Digits" && Has(first, "individual_digits", true);
    return digits ? std::optional(PreTokenizerKind::kSmolLm) : std::nullopt;
  }
  const Json* pattern = FindMember(first, "pattern");
  const Json* regex = pattern != nullptr ? FindMember(*pattern, "Regex") : nullptr;
  const bool plain = TypeOf(&first) == "Split" && Has(first, "behavior", "Isolated") && !Has(first, "invert", true);
  if (!plain || regex == nullptr || !regex->is_string()) return std::nullopt;
  return PreTokenizerByPattern(regex->get_ref<const std::string&>());
}

absl::Status ReadByteLevelSteps(const Json& root, const Json& model, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const std::vector<const Json*> steps,
                        Steps(FindMember(root, "pre_tokenizer"), "pretokenizers", "pre_tokenizer"));
  const auto kind = RecognisePreTokenizer(steps);
  if (!kind) return Unsupported("pre_tokenizer", steps, SupportedPreTokenizers());
  data.pre_tokenizer = *kind;
  LUKV_ASSIGN_OR_RETURN(const std::vector<const Json*> normalizers,
                        Steps(FindMember(root, "normalizer"), "normalizers", "normalizer"));
  data.nfc = normalizers.size() == 1 && TypeOf(normalizers[0]) == "NFC";
  if (!normalizers.empty() && !data.nfc) return Unsupported("normalizer", normalizers, "none, NFC");
  LUKV_ASSIGN_OR_RETURN(data.ignore_merges, GetBoolOr(model, "ignore_merges", false, "model"));
  return absl::OkStatus();
}

std::optional<SpacePrefix> RecogniseMetaspace(const Json& step) {
  if (!Has(step, "replacement", kUnderline) || !Has(step, "split", false)) return std::nullopt;
  if (Has(step, "prepend_scheme", "always")) return SpacePrefix::kEachUnlessOne;
  if (Has(step, "prepend_scheme", "first")) return SpacePrefix::kFirstUnlessOne;
  if (Has(step, "prepend_scheme", "never")) return SpacePrefix::kNever;
  return std::nullopt;
}

std::optional<SpacePrefix> RecogniseSpaceNormalizers(const std::vector<const Json*>& steps) {
  if (steps.empty() || steps.size() > 2) return std::nullopt;
  const Json& replace = *steps.back();
  const bool replaces = TypeOf(&replace) == "Replace" && Has(replace, "pattern", Json{{"String", " "}}) &&
                        Has(replace, "content", kUnderline);
  if (!replaces) return std::nullopt;
  if (steps.size() == 1) return SpacePrefix::kNever;
  const bool prepends = TypeOf(steps[0]) == "Prepend" && Has(*steps[0], "prepend", kUnderline);
  return prepends ? std::optional(SpacePrefix::kEach) : std::nullopt;
}

absl::Status ReadSentencePieceSteps(const Json& root, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(std::vector<const Json*> steps,
                        Steps(FindMember(root, "normalizer"), "normalizers", "normalizer"));
  LUKV_ASSIGN_OR_RETURN(const std::vector<const Json*> pre,
                        Steps(FindMember(root, "pre_tokenizer"), "pretokenizers", "pre_tokenizer"));
  std::optional<SpacePrefix> prefix;
  if (pre.empty()) {
    prefix = RecogniseSpaceNormalizers(steps);
  } else if (steps.empty() && pre.size() == 1 && TypeOf(pre[0]) == "Metaspace") {
    prefix = RecogniseMetaspace(*pre[0]);
  }
  if (!prefix) {
    steps.insert(steps.end(), pre.begin(), pre.end());
    return Unsupported("normalizer and pre_tokenizer", steps,
                       "Prepend + Replace of spaces (Llama 2), Metaspace without split (Mistral)");
  }
  data.space_prefix = *prefix;
  return absl::OkStatus();
}

// A TemplateProcessing whose single form starts with a special token puts that in front of every text.
absl::Status ReadPostProcessor(const Json& root, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const std::vector<const Json*> steps,
                        Steps(FindMember(root, "post_processor"), "processors", "post_processor"));
  for (const Json* step : steps) {
    if (TypeOf(step) != "TemplateProcessing") continue;
    LUKV_ASSIGN_OR_RETURN(const Json* single, GetArray(*step, "single", "post_processor"));
    const Json* first = single->empty() ? nullptr : FindMember(single->front(), "SpecialToken");
    if (first == nullptr) continue;
    LUKV_ASSIGN_OR_RETURN(const std::string text, GetString(*first, "id", "post_processor.single"));
    LUKV_ASSIGN_OR_RETURN(data.bos, FindToken(data, text, "post_processor"));
    data.adds_bos = true;
  }
  return absl::OkStatus();
}

// What would change the ids and is not in any family that lukv serves.
absl::Status CheckModel(const Json& model) {
  LUKV_ASSIGN_OR_RETURN(const std::string type, GetString(model, "type", "model"));
  if (type != "BPE") {
    return absl::UnimplementedError(absl::StrCat("model type ", Quoted(type), " is not supported; supported: BPE"));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix", "dropout"}) {
    const Json* value = FindMember(model, key);
    const bool off = value == nullptr || *value == Json("") || *value == Json(0);
    if (!off) {
      return absl::UnimplementedError(absl::StrCat("model.", key, " ", Shown(*value), " is not supported"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerData> ReadTokenizerJson(const Json& root) {
  TokenizerData data;
  LUKV_ASSIGN_OR_RETURN(const Json* model, GetObject(root, "model", "tokenizer"));
  LUKV_RETURN_IF_ERROR(CheckModel(*model));
  LUKV_ASSIGN_OR_RETURN(const bool byte_fallback, GetBoolOr(*model, "byte_fallback", false, "model"));
  data.kind = byte_fallback ? TokenizerKind::kSentencePiece : TokenizerKind::kByteLevel;
  LUKV_RETURN_IF_ERROR(byte_fallback ? ReadSentencePieceSteps(root, data) : ReadByteLevelSteps(root, *model, data));
  LUKV_RETURN_IF_ERROR(ReadVocabulary(*model, data));
  LUKV_RETURN_IF_ERROR(ReadAddedTokens(root, data));
  LUKV_RETURN_IF_ERROR(ReadMerges(*model, data));
  LUKV_RETURN_IF_ERROR(ReadPostProcessor(root, data));
  return data;
}

}  // namespace

absl::Status ReadAddedToken(const Json& entry, TokenId id, TokenizerData& data) {
  constexpr char kWhere[] = "added token";
  LUKV_ASSIGN_OR_RETURN(const std::string text, GetString(entry, "content", kWhere));
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat("added token ", id, " is empty"));
  LUKV_ASSIGN_OR_RETURN(const bool single_word, GetBoolOr(entry, "single_word", false, kWhere));
  if (single_word) {
    return absl::UnimplementedError(absl::StrCat("added token ", Quoted(text), " with single_word is not supported"));
  }
  AddedToken token{.id = id};
  LUKV_ASSIGN_OR_RETURN(token.strip_left, GetBoolOr(entry, "lstrip", false, kWhere));
  LUKV_ASSIGN_OR_RETURN(token.strip_right, GetBoolOr(entry, "rstrip", false, kWhere));
  LUKV_ASSIGN_OR_RETURN(const bool special, GetBoolOr(entry, "special", false, kWhere));
  const TokenType type = special ? TokenType::kControl : TokenType::kUserDefined;
  LUKV_RETURN_IF_ERROR(SetToken(id, text, type, data.tokens.size(), data));
  const auto same_id = [&](const AddedToken& other) { return other.id == id; };
  if (std::none_of(data.added.begin(), data.added.end(), same_id)) data.added.push_back(token);
  return absl::OkStatus();
}

absl::StatusOr<TokenizerData> ParseTokenizerJson(std::string_view json) {
  LUKV_ASSIGN_OR_RETURN(const Json root, ParseJson(json));
  return ReadTokenizerJson(root);
}

}  // namespace lukv
