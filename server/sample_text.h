// The text of one sample: tokens in, text to show out. The only place that knows where a sample's text ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "server/stop_matcher.h"

namespace lukv {

class SampleText {
 public:
  // `stops` must outlive this. Text of the first `min_tokens` tokens is not searched for stop strings. `special`:
  // special tokens are part of the text.
  SampleText(const Tokenizer& tokenizer, const std::vector<std::string>& stops, int32_t min_tokens,
             bool special = false);

  // Appends what may be shown after this token to `text`. `silent`: the token ends the sample and has no text.
  // Returns the index of the stop string that ends the sample here, -1 if none does.
  // REQUIRES: none did before.
  int32_t Push(TokenId token, bool silent, std::string& text);

  // Appends what was held back. To be called once, when the sample ends without a stop string.
  void Finish(std::string& text);

  int32_t tokens() const { return tokens_; }

 private:
  StreamDecoder decoder_;
  StopMatcher matcher_;
  int32_t min_tokens_;
  int32_t tokens_ = 0;
};

}  // namespace lukv
