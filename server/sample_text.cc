#include "server/sample_text.h"

namespace lukv {

SampleText::SampleText(const Tokenizer& tokenizer, const std::vector<std::string>& stops, int32_t min_tokens,
                       bool special)
    : decoder_(tokenizer, special), matcher_(stops), min_tokens_(min_tokens) {}

int32_t SampleText::Push(TokenId token, bool silent, std::string& text) {
  ++tokens_;
  if (silent) return -1;
  const std::string piece = decoder_.Push(token);
  if (tokens_ <= min_tokens_) {
    text.append(piece);
    return -1;
  }
  StopMatcher::Result result = matcher_.Push(piece);
  text.append(result.text);
  return result.matched;
}

void SampleText::Finish(std::string& text) {
  text.append(matcher_.Finish());
  text.append(decoder_.Finish());
}

}  // namespace lukv
