// A GGUF's tokenizer as the tokenizer.json and tokenizer_config.json of Hugging Face.
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer_files.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

using Json = nlohmann::json;

constexpr char kUnderline[] = "\xE2\x96\x81";  // U+2581

Json AddedTokens(const TokenizerData& data) {
  Json added = Json::array();
  for (const AddedToken& token : data.added) {
    added.push_back({{"id", token.id},
                     {"content", data.tokens[token.id]},
                     {"single_word", false},
                     {"lstrip", token.strip_left},
                     {"rstrip", token.strip_right},
                     {"normalized", false},
                     {"special", data.types[token.id] != TokenType::kUserDefined}});
  }
  return added;
}

Json Vocabulary(const TokenizerData& data) {
  Json vocabulary = Json::object();
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (!data.tokens[id].empty()) vocabulary[data.tokens[id]] = id;
  }
  return vocabulary;
}

Json ByteLevelStep(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json PreTokenizerSteps(PreTokenizerKind kind) {
  Json first;
  switch (kind) {
    case PreTokenizerKind::kGpt2:
      return ByteLevelStep(/*use_regex=*/true);
    case PreTokenizerKind::kSmolLm:
      first = {{"type", "Digits"}, {"individual_digits", true}};
      break;
    case PreTokenizerKind::kLlama3:
    case PreTokenizerKind::kQwen2:
      first = {{"type", "Split"},
               {"pattern", {{"Regex", PublishedPattern(kind)}}},
               {"behavior", "Isolated"},
               {"invert", false}};
      break;
  }
  const Json second = ByteLevelStep(kind == PreTokenizerKind::kSmolLm);
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({first, second})}};
}

// Puts the beginning-of-text token in front, or is null.
Json PostProcessor(const TokenizerData& data) {
  if (!data.adds_bos || data.bos < 0) return nullptr;
  const std::string& bos = data.tokens[data.bos];
  const auto special = [&](int type) { return Json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}}; };
  const auto sequence = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  const Json token = {{"id", bos}, {"ids", Json::array({data.bos})}, {"tokens", Json::array({bos})}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special(0), sequence("A", 0)})},
          {"pair", Json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
          {"special_tokens", {{bos, token}}}};
}

Json BpeModel(const TokenizerData& data, Json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", data.ignore_merges},
          {"vocab", Vocabulary(data)},
          {"merges", std::move(merges)}};
}

absl::Status WriteByteLevel(const GgufFile& file, const TokenizerData& data, Json& out) {
  LUKV_ASSIGN_OR_RETURN(const std::vector<std::string_view> pairs, file.GetStrings("tokenizer.ggml.merges"));
  Json merges = Json::array();
  for (const std::string_view pair : pairs) merges.push_back(pair);
  out["model"] = BpeModel(data, std::move(merges));
  if (data.nfc) out["normalizer"] = {{"type", "NFC"}};
  out["pre_tokenizer"] = PreTokenizerSteps(data.pre_tokenizer);
  out["decoder"] = ByteLevelStep(/*use_regex=*/true);
  return absl::OkStatus();
}

// SentencePiece merges whatever makes a token, the highest score first; the file lists every such pair, in that order.
absl::StatusOr<Json> MergesByScore(const GgufFile& file, const TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const std::vector<float> scores, file.GetFloats("tokenizer.ggml.scores"));
  LUKV_ASSIGN_OR_RETURN(const VocabularyIndex index, IndexVocabulary(data));
  std::vector<std::tuple<float, TokenId, TokenId>> found;  // Minus the score, left, right.
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] != TokenType::kNormal) continue;
    const std::string_view token = data.tokens[id];
    if (token.find(' ') != std::string_view::npos) {
      return absl::UnimplementedError(absl::StrCat("token ", id, " has a space, which no merge of the file can have"));
    }
    for (size_t cut = CodePointLength(token); cut < token.size(); cut += CodePointLength(token.substr(cut))) {
      const auto left = index.find(token.substr(0, cut));
      const auto right = index.find(token.substr(cut));
      if (left == index.end() || right == index.end()) continue;
      if (data.types[left->second] != TokenType::kNormal || data.types[right->second] != TokenType::kNormal) continue;
      found.emplace_back(-scores[id], left->second, right->second);
    }
  }
  std::sort(found.begin(), found.end());
  Json merges = Json::array();
  for (const auto& [score, left, right] : found) {
    merges.push_back(absl::StrCat(data.tokens[left], " ", data.tokens[right]));
  }
  return merges;
}

absl::Status WriteSentencePiece(const GgufFile& file, const TokenizerData& data, Json& out) {
  LUKV_ASSIGN_OR_RETURN(Json merges, MergesByScore(file, data));
  Json model = BpeModel(data, std::move(merges));
  model["byte_fallback"] = true;
  model["fuse_unk"] = true;
  const auto unknown = std::find(data.types.begin(), data.types.end(), TokenType::kUnknown);
  if (unknown != data.types.end()) model["unk_token"] = data.tokens[unknown - data.types.begin()];
  out["model"] = std::move(model);
  const Json to_underline = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kUnderline}};
  const Json to_space = {{"type", "Replace"}, {"pattern", {{"String", kUnderline}}}, {"content", " "}};
  Json normalizers = Json::array();
  Json decoders = Json::array({to_space, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (data.space_prefix != SpacePrefix::kNever) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kUnderline}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back(to_underline);
  out["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  out["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  return absl::OkStatus();
}

absl::Status AddNamedToken(const GgufFile& file, const char* key, const char* name, const TokenizerData& data,
                           Json& config) {
  if (!file.Has(key)) return absl::OkStatus();
  LUKV_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  if (id >= 0 && id < static_cast<int64_t>(data.tokens.size())) config[name] = data.tokens[id];
  return absl::OkStatus();
}

absl::StatusOr<Json> Config(const GgufFile& file, const TokenizerData& data) {
  Json decoder = Json::object();
  for (Json& token : AddedTokens(data)) {
    const std::string id = absl::StrCat(token["id"].get<TokenId>());
    token.erase("id");
    decoder[id] = std::move(token);
  }
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_bos_token", data.adds_bos},
                 {"add_eos_token", false},
                 {"clean_up_tokenization_spaces", false},
                 {"added_tokens_decoder", std::move(decoder)}};
  if (data.bos >= 0) config["bos_token"] = data.tokens[data.bos];
  if (!data.end_tokens.empty()) config["eos_token"] = data.tokens[data.end_tokens[0]];
  if (!data.chat_template.empty()) config["chat_template"] = data.chat_template;
  LUKV_RETURN_IF_ERROR(AddNamedToken(file, "tokenizer.ggml.unknown_token_id", "unk_token", data, config));
  LUKV_RETURN_IF_ERROR(AddNamedToken(file, "tokenizer.ggml.padding_token_id", "pad_token", data, config));
  return config;
}

// JSON is UTF-8.
absl::Status CheckUtf8(const TokenizerData& data) {
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (ValidUtf8Prefix(data.tokens[id]) != data.tokens[id].size()) {
      return absl::UnimplementedError(absl::StrCat("token ", id, " of the vocabulary is not UTF-8"));
    }
  }
  const bool valid = ValidUtf8Prefix(data.chat_template) == data.chat_template.size();
  return valid ? absl::OkStatus() : absl::UnimplementedError("the chat template is not UTF-8");
}

}  // namespace

absl::StatusOr<TokenizerJsonFiles> TokenizerJsonOfGguf(const GgufFile& file) {
  LUKV_ASSIGN_OR_RETURN(const TokenizerData data, ReadGgufTokenizer(file));
  LUKV_RETURN_IF_ERROR(CheckUtf8(data));
  Json tokenizer = {{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"added_tokens", AddedTokens(data)},
                    {"normalizer", nullptr},
                    {"pre_tokenizer", nullptr},
                    {"post_processor", PostProcessor(data)}};
  LUKV_RETURN_IF_ERROR(data.kind == TokenizerKind::kByteLevel ? WriteByteLevel(file, data, tokenizer)
                                                              : WriteSentencePiece(file, data, tokenizer));
  LUKV_ASSIGN_OR_RETURN(const Json config, Config(file, data));
  return TokenizerJsonFiles{.tokenizer = tokenizer.dump(), .tokenizer_config = config.dump()};
}

}  // namespace lukv
