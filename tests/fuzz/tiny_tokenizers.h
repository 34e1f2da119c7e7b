// Vocabularies of every byte and a handful of pieces.
#pragma once

#include <memory>
#include <string>

#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// GGUF files of metadata alone.
std::string TinyByteLevelGguf();
std::string TinySentencePieceGguf();

std::unique_ptr<Tokenizer> TinyTokenizer(const std::string& gguf);

}  // namespace lukv
