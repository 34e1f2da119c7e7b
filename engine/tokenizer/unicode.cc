#include "engine/tokenizer/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <cstdint>

#include "base/check.h"

namespace lukv {
namespace {

uint8_t Byte(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

// Length that a lead byte announces, 0 for a byte that cannot lead.
size_t AnnouncedLength(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// The second byte's range depends on the lead (RFC 3629, section 4).
bool ValidSecond(uint8_t lead, uint8_t second) {
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  return second >= low && second <= high;
}

}  // namespace

Utf8Step NextUtf8Step(std::string_view text) {
  using Kind = Utf8Step::Kind;
  const size_t announced = AnnouncedLength(Byte(text, 0));
  if (announced == 0) return {Kind::kInvalid, 1};
  for (size_t i = 1; i < announced; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, i};
    const bool valid = i == 1 ? ValidSecond(Byte(text, 0), Byte(text, 1)) : (Byte(text, i) & 0xC0) == 0x80;
    if (!valid) return {Kind::kInvalid, i};
  }
  return {Kind::kComplete, announced};
}

size_t CodePointLength(std::string_view text) {
  const Utf8Step step = NextUtf8Step(text);
  return step.kind == Utf8Step::Kind::kComplete ? step.length : 0;
}

size_t ValidUtf8Prefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (Byte(text, i) < 0x80) {
      ++i;
      continue;
    }
    const size_t length = CodePointLength(text.substr(i));
    if (length == 0) break;
    i += length;
  }
  return i;
}

char32_t DecodeCodePoint(std::string_view text) {
  const uint8_t lead = Byte(text, 0);
  const size_t length = AnnouncedLength(lead);
  if (length == 1) return lead;
  char32_t code_point = lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) code_point = (code_point << 6) | (Byte(text, i) & 0x3F);
  return code_point;
}

void AppendUtf8(char32_t code_point, std::string& text) {
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
    return;
  }
  const int trail = code_point < 0x800 ? 1 : code_point < 0x10000 ? 2 : 3;
  static constexpr uint8_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  text += static_cast<char>(kLead[trail] | (code_point >> (6 * trail)));
  for (int i = trail - 1; i >= 0; --i) text += static_cast<char>(0x80 | ((code_point >> (6 * i)) & 0x3F));
}

std::string NormalizeNfc(std::string_view text) {
  // ICU counts in int32_t. Cutting the text elsewhere than at a normalization boundary would change the result.
  LUKV_CHECK(text.size() <= INT32_MAX);
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  LUKV_CHECK(U_SUCCESS(error));
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, error);
  LUKV_CHECK(U_SUCCESS(error));
  return result;
}

bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsPythonSpace(char32_t c) { return IsSpace(c) || (c >= 0x1C && c <= 0x1F); }

size_t LeadingRun(std::string_view text, bool (*is_space)(char32_t)) {
  size_t i = 0;
  while (i < text.size()) {
    const size_t length = CodePointLength(text.substr(i));
    if (length == 0 || !is_space(DecodeCodePoint(text.substr(i)))) break;
    i += length;
  }
  return i;
}

size_t TrailingRun(std::string_view text, bool (*is_space)(char32_t)) {
  size_t end = text.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && end - start < 4 && (Byte(text, start) & 0xC0) == 0x80) --start;
    const std::string_view last = text.substr(start, end - start);
    if (CodePointLength(last) != last.size() || !is_space(DecodeCodePoint(last))) break;
    end = start;
  }
  return text.size() - end;
}

}  // namespace lukv
