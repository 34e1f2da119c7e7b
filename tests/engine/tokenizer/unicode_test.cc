#include "engine/tokenizer/unicode.h"

#include <string>

#include "gtest/gtest.h"

namespace lukv {
namespace {

TEST(Unicode, WellFormedCodePoints) {
  EXPECT_EQ(CodePointLength("a"), 1u);
  EXPECT_EQ(CodePointLength(std::string(1, '\0')), 1u);
  EXPECT_EQ(CodePointLength("\xC2\x80"), 2u);
  EXPECT_EQ(CodePointLength("\xE0\xA0\x80"), 3u);
  EXPECT_EQ(CodePointLength("\xED\x9F\xBF"), 3u);
  EXPECT_EQ(CodePointLength("\xF4\x8F\xBF\xBF"), 4u);
  for (const char* bad : {"\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xE2\x28\xA1"}) {
    EXPECT_EQ(CodePointLength(bad), 0u);
  }
}

TEST(Unicode, ValidPrefixEndsAtTheFirstBadByte) {
  EXPECT_EQ(ValidUtf8Prefix("a\xC3\xA9\xF0\x9F\x98\x80"), 7u);
  EXPECT_EQ(ValidUtf8Prefix("a\xC3\xA9\xF0\x9F\x98"), 3u);
  EXPECT_EQ(ValidUtf8Prefix("\xFF"), 0u);
}

TEST(Unicode, CodePointsRoundTrip) {
  for (const char32_t c : {U'\0', U'a', U'\u0080', U'\u07FF', U'\u0800', U'\uFFFF', U'\U00010000', U'\U0010FFFF'}) {
    std::string text;
    AppendUtf8(c, text);
    EXPECT_EQ(CodePointLength(text), text.size());
    EXPECT_EQ(DecodeCodePoint(text), c);
  }
}

TEST(Unicode, NormalizesToComposed) {
  EXPECT_EQ(NormalizeNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(NormalizeNfc("\u212B q\u0307\u0323"), "\u00C5 q\u0323\u0307");
  EXPECT_EQ(NormalizeNfc("\u1112\u1161\u11AB"), "\uD55C");
  EXPECT_EQ(NormalizeNfc("plain"), "plain");
}

TEST(Unicode, SpaceRuns) {
  EXPECT_EQ(LeadingRun(" \t\u00A0\u3000x ", IsSpace), 7u);
  EXPECT_EQ(TrailingRun(" x\u2003\x1c\n", IsPythonSpace), 5u);
  EXPECT_EQ(TrailingRun(" x\x1c\n", IsSpace), 1u);
  EXPECT_EQ(TrailingRun("\u200B", IsPythonSpace), 0u);
  EXPECT_EQ(TrailingRun("\x80\x80\x80\x80\x80", IsPythonSpace), 0u);
  EXPECT_EQ(LeadingRun("   ", IsSpace), 3u);
  EXPECT_EQ(TrailingRun("   ", IsSpace), 3u);
}

}  // namespace
}  // namespace lukv
