// tokenizer_config.json, generation_config.json and config.json of a Hugging Face folder.
#include <charconv>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/tokenizer/json_fields.h"
#include "engine/tokenizer/tokenizer_files.h"

namespace lukv {
namespace {

using Json = nlohmann::json;

// The id of a token that is written as a string or as an object with its content; -1 when it is not there.
absl::StatusOr<TokenId> NamedToken(const Json& config, const char* key, const TokenizerData& data) {
  const Json* token = FindMember(config, key);
  if (token == nullptr) return -1;
  if (token->is_object()) {
    LUKV_ASSIGN_OR_RETURN(const std::string content, GetString(*token, "content", key));
    return FindToken(data, content, key);
  }
  LUKV_ASSIGN_OR_RETURN(const std::string content, GetString(config, key, "tokenizer_config"));
  return FindToken(data, content, key);
}

absl::Status ReadAddedTokensDecoder(const Json& config, TokenizerData& data) {
  if (FindMember(config, "added_tokens_decoder") == nullptr) return absl::OkStatus();
  LUKV_ASSIGN_OR_RETURN(const Json* tokens, GetObject(config, "added_tokens_decoder", "tokenizer_config"));
  for (const auto& [key, entry] : tokens->items()) {
    TokenId id = -1;
    const char* end = key.data() + key.size();
    if (std::from_chars(key.data(), end, id).ptr != end || id < 0) {
      return absl::InvalidArgumentError(absl::StrCat("added_tokens_decoder has the id ", Quoted(key)));
    }
    LUKV_RETURN_IF_ERROR(ReadAddedToken(entry, id, data));
  }
  return absl::OkStatus();
}

// One template, or a list of named ones of which "default" is the one for chats.
absl::Status ReadChatTemplate(const Json& config, TokenizerData& data) {
  const Json* found = FindMember(config, "chat_template");
  if (found == nullptr) return absl::OkStatus();
  if (!found->is_array()) {
    LUKV_ASSIGN_OR_RETURN(data.chat_template, GetString(config, "chat_template", "tokenizer_config"));
    return absl::OkStatus();
  }
  for (const Json& entry : *found) {
    LUKV_ASSIGN_OR_RETURN(const std::string name, GetString(entry, "name", "chat_template"));
    if (name != "default") continue;
    LUKV_ASSIGN_OR_RETURN(data.chat_template, GetString(entry, "template", "chat_template"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyTokenizerConfig(std::string_view json, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const Json config, ParseJson(json));
  if (!config.is_object()) return absl::InvalidArgumentError("not a JSON object");
  LUKV_RETURN_IF_ERROR(ReadAddedTokensDecoder(config, data));
  LUKV_ASSIGN_OR_RETURN(const TokenId bos, NamedToken(config, "bos_token", data));
  if (bos >= 0) data.bos = bos;
  LUKV_ASSIGN_OR_RETURN(const TokenId eos, NamedToken(config, "eos_token", data));
  if (eos >= 0) AddEndToken(eos, data);
  LUKV_ASSIGN_OR_RETURN(data.adds_bos, GetBoolOr(config, "add_bos_token", data.adds_bos, "tokenizer_config"));
  return ReadChatTemplate(config, data);
}

absl::Status AddEndTokens(std::string_view json, TokenizerData& data) {
  LUKV_ASSIGN_OR_RETURN(const Json config, ParseJson(json));
  const Json* eos = FindMember(config, "eos_token_id");
  if (eos == nullptr) return absl::OkStatus();
  const auto add = [&](const Json& value) -> absl::Status {
    LUKV_ASSIGN_OR_RETURN(const TokenId id, AsTokenId(value, "eos_token_id"));
    AddEndToken(id, data);
    return absl::OkStatus();
  };
  if (!eos->is_array()) return add(*eos);
  for (const Json& value : *eos) LUKV_RETURN_IF_ERROR(add(value));
  return absl::OkStatus();
}

}  // namespace lukv
