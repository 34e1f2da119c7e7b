// The files that describe a tokenizer: those of a Hugging Face folder, and a GGUF's metadata. Everything here reports
// what is wrong with a file as INVALID_ARGUMENT, and what lukv does not support as UNIMPLEMENTED.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer_data.h"

namespace lukv {

// tokenizer.json: vocabulary, added tokens, merges, and whether and which beginning-of-text token its post-processor
// puts in front. Leaves out what stands in other files (end tokens, chat template).
absl::StatusOr<TokenizerData> ParseTokenizerJson(std::string_view json);

// tokenizer.model: a serialized ModelProto of the sentencepiece library.
absl::StatusOr<TokenizerData> ParseSentencePieceModel(std::string_view bytes);

absl::StatusOr<TokenizerData> ReadGgufTokenizer(const GgufFile& file);

// What a Hugging Face folder of the GGUF's model would have: the same tokenizer for programs that read only those.
// UNIMPLEMENTED: it cannot be said in these files.
struct TokenizerJsonFiles {
  std::string tokenizer;         // tokenizer.json
  std::string tokenizer_config;  // tokenizer_config.json
};
absl::StatusOr<TokenizerJsonFiles> TokenizerJsonOfGguf(const GgufFile& file);

// Makes `id` the added token that `entry` describes, as in tokenizer.json's added_tokens and (with the id as the key)
// tokenizer_config.json's added_tokens_decoder.
absl::Status ReadAddedToken(const nlohmann::json& entry, TokenId id, TokenizerData& data);

// Applies tokenizer_config.json to what one of the two gave: added tokens, beginning- and end-of-text tokens, chat
// template.
absl::Status ApplyTokenizerConfig(std::string_view json, TokenizerData& data);

// Adds the eos_token_id (one or a list) of a generation_config.json or config.json to data.end_tokens.
absl::Status AddEndTokens(std::string_view json, TokenizerData& data);

}  // namespace lukv
