#include "server/sample_text.h"

#include <gtest/gtest.h>

#include "tests/server/fake_tokenizer.h"

namespace lukv {
namespace {

class SampleTextTest : public testing::Test {
 protected:
  // What is shown after each token of `ids`, then at the end; stops at a match.
  std::vector<std::string> Pieces(const std::vector<TokenId>& ids, const std::vector<std::string>& stops,
                                  int32_t min_tokens = 0) {
    SampleText text(tokenizer_, stops, min_tokens);
    std::vector<std::string> pieces;
    for (const TokenId id : ids) {
      std::string piece;
      matched_ = text.Push(id, id == FakeTokenizer::kEnd, piece);
      pieces.push_back(piece);
      tokens_ = text.tokens();
      if (matched_ >= 0) return pieces;
    }
    std::string rest;
    text.Finish(rest);
    pieces.push_back(rest);
    return pieces;
  }

  FakeTokenizer tokenizer_;
  int32_t matched_ = -1;
  int32_t tokens_ = 0;
};

using Strings = std::vector<std::string>;

TEST_F(SampleTextTest, ShowsAnEmojiOnlyWhenItsLastByteIsThere) {
  EXPECT_EQ(Pieces(Bytes("a\xF0\x9F\x98\x80"), {}), (Strings{"a", "", "", "", "\xF0\x9F\x98\x80", ""}));
}

TEST_F(SampleTextTest, AnUnfinishedCodePointBecomesTheReplacementCharacter) {
  EXPECT_EQ(Pieces(Bytes("a\xF0\x9F"), {}), (Strings{"a", "", "", "\xEF\xBF\xBD"}));
}

TEST_F(SampleTextTest, TheEndTokenHasNoText) {
  EXPECT_EQ(Pieces({'a', FakeTokenizer::kEnd}, {}), (Strings{"a", "", ""}));
  EXPECT_EQ(tokens_, 2);
}

TEST_F(SampleTextTest, StopsAcrossTokensAndCountsThem) {
  EXPECT_EQ(Pieces({'x', FakeTokenizer::kHello, 'y', 'z'}, {"o y"}), (Strings{"x", "hell", ""}));
  EXPECT_EQ(matched_, 0);
  EXPECT_EQ(tokens_, 3);
}

TEST_F(SampleTextTest, StopsInsideAToken) {
  EXPECT_EQ(Pieces({'x', FakeTokenizer::kHello, 'y'}, {"ll"}), (Strings{"x", "he"}));
  EXPECT_EQ(matched_, 0);
}

TEST_F(SampleTextTest, HeldTextComesOutAtTheEnd) {
  EXPECT_EQ(Pieces(Bytes("abE"), {"END"}), (Strings{"a", "b", "", "E"}));
  EXPECT_EQ(matched_, -1);
}

TEST_F(SampleTextTest, StopStringsMatchWholeCodePoints) {
  // U+00E9 is C3 A9: the stop string's first byte alone is held back with its code point.
  EXPECT_EQ(Pieces(Bytes("a\xC3\xA9z"), {"\xC3\xA9!"}), (Strings{"a", "", "", "\xC3\xA9z", ""}));
  EXPECT_EQ(Pieces(Bytes("a\xC3\xA9!"), {"\xC3\xA9!"}), (Strings{"a", "", "", ""}));
}

TEST_F(SampleTextTest, TheFirstTokensAreNotSearched) {
  EXPECT_EQ(Pieces(Bytes("xyxy"), {"xy"}, 2), (Strings{"x", "y", "", ""}));
  EXPECT_EQ(tokens_, 4);
}

}  // namespace
}  // namespace lukv
