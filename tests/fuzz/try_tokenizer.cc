#include "tests/fuzz/try_tokenizer.h"

#include <array>
#include <string_view>

#include "absl/strings/str_replace.h"
#include "base/check.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = NextUtf8Step(text);
    if (step.kind != Utf8Step::Kind::kComplete) return false;
    text.remove_prefix(step.length);
  }
  return true;
}

}  // namespace

void TryTokenizer(const Tokenizer& tokenizer, const std::string& input, const std::string& space) {
  if (input.empty()) return;
  const std::string text = input.substr(1);
  const size_t cut = static_cast<unsigned char>(input[0]) % (text.size() + 1);
  const std::array<TextSegment, 2> segments = {TextSegment{.text = text.substr(0, cut), .parse_special = true},
                                               TextSegment{.text = text.substr(cut), .parse_special = false}};
  const auto ids = tokenizer.Encode(segments, /*add_bos=*/false);
  if (!ids.ok()) {
    LUKV_CHECK(ids.status().code() == absl::StatusCode::kInvalidArgument && !IsUtf8(text));
    return;
  }
  StreamDecoder decoder(tokenizer, /*special=*/true);
  std::string streamed;
  for (const TokenId id : *ids) {
    LUKV_CHECK(id >= 0 && id < tokenizer.vocabulary());
    streamed += decoder.Push(id);
    LUKV_CHECK(IsUtf8(streamed));
  }
  streamed += decoder.Finish();
  LUKV_CHECK(IsUtf8(streamed));
  // Both vocabularies have every byte, so nothing is lost.
  const std::string expected = space.empty() ? text : absl::StrReplaceAll(text, {{space, " "}});
  LUKV_CHECK(tokenizer.Decode(*ids, /*special=*/true) == expected);
}

}  // namespace lukv
