// UTF-8 and the few Unicode rules that tokenizers need.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lukv {

// Bytes of the well-formed code point (RFC 3629: no surrogates, no overlong forms) at the start of `text`, 0 when there
// is none. REQUIRES: text is not empty.
size_t CodePointLength(std::string_view text);

// Bytes at the start of `text` that are well-formed UTF-8.
size_t ValidUtf8Prefix(std::string_view text);

// What the start of `text` is to somebody who reads it byte by byte.
struct Utf8Step {
  enum class Kind { kComplete, kIncomplete, kInvalid };
  Kind kind = Kind::kComplete;
  // kComplete: the code point's bytes. kIncomplete: all of `text`, which more bytes may complete. kInvalid: the maximal
  // subpart that one U+FFFD stands for (the Unicode standard, section 3.9).
  size_t length = 0;
};
Utf8Step NextUtf8Step(std::string_view text);

// REQUIRES: text starts with a well-formed code point.
char32_t DecodeCodePoint(std::string_view text);
void AppendUtf8(char32_t code_point, std::string& text);

// Unicode normalization form C. REQUIRES: valid UTF-8.
std::string NormalizeNfc(std::string_view text);

// Unicode's White_Space.
bool IsSpace(char32_t code_point);
// What Python's str.strip() and Jinja's `trim` take away: also U+001C to U+001F.
bool IsPythonSpace(char32_t code_point);
// Bytes of such code points at the start and at the end of `text`.
size_t LeadingRun(std::string_view text, bool (*is_space)(char32_t));
size_t TrailingRun(std::string_view text, bool (*is_space)(char32_t));

}  // namespace lukv
