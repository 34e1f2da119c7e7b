// What a gateway needs to tokenize for a model, as one ZIP archive.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// Of the model at `path`: those files of a Hugging Face folder that describe its tokenizer and what it is, or such
// files made from a GGUF's metadata. UNIMPLEMENTED: the tokenizer cannot be written so.
absl::StatusOr<std::string> MakeTokenizerZip(const std::string& path, const ModelInfo& info,
                                             const Tokenizer& tokenizer);

}  // namespace lukv
