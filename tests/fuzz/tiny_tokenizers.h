// Vocabularies of every byte and a handful of pieces.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/model/gguf_builder.h"

namespace lukv {

// The metadata of the first; how many tokens it has.
uint32_t AddTinyByteLevelTokens(GgufBuilder& builder);

// GGUF files of metadata alone.
std::string TinyByteLevelGguf();
std::string TinySentencePieceGguf();

std::unique_ptr<Tokenizer> TinyTokenizer(const std::string& gguf);

}  // namespace lukv
