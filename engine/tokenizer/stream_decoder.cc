#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool special) : tokenizer_(tokenizer), special_(special) {}

std::string StreamDecoder::Push(TokenId id) {
  pending_ += tokenizer_.Piece(id, special_);
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Step step = NextUtf8Step(rest);
    if (step.kind == Utf8Step::Kind::kIncomplete) break;
    text += step.kind == Utf8Step::Kind::kComplete ? rest.substr(0, step.length) : kReplacement;
    rest.remove_prefix(step.length);
  }
  pending_ = std::string(rest);
  return text;
}

std::string StreamDecoder::Finish() {
  // Push leaves at most one unfinished code point.
  if (pending_.empty()) return "";
  pending_.clear();
  return std::string(kReplacement);
}

}  // namespace lukv
