// What holds for every text and every tokenizer.
#pragma once

#include <string>

#include "engine/tokenizer/tokenizer.h"

namespace lukv {

// The first byte of `input` cuts the rest into a stretch with and one without special tokens. Ends the process if a
// promise of tokenizer.h is broken. `space`: what the vocabulary takes for a space besides " "; "": nothing.
void TryTokenizer(const Tokenizer& tokenizer, const std::string& input, const std::string& space = "");

}  // namespace lukv
