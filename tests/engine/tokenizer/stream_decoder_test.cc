#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode.h"
#include "gtest/gtest.h"

namespace lukv {
namespace {

// Token i is the i-th piece; the last one is special.
class Pieces final : public Tokenizer {
 public:
  explicit Pieces(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  absl::StatusOr<std::vector<TokenId>> Encode(std::span<const TextSegment>, bool) const override {
    return absl::UnimplementedError("only decodes");
  }
  std::string Piece(TokenId id, bool special) const override {
    return IsSpecial(id) && !special ? "" : pieces_.at(static_cast<size_t>(id));
  }
  std::string Decode(std::span<const TokenId>, bool) const override { return ""; }
  int32_t vocabulary() const override { return static_cast<int32_t>(pieces_.size()); }
  TokenId bos() const override { return -1; }
  const std::vector<TokenId>& end_tokens() const override { return no_tokens_; }
  bool IsSpecial(TokenId id) const override { return id + 1 == vocabulary(); }
  bool adds_bos() const override { return false; }
  const std::string& chat_template() const override { return no_template_; }

 private:
  std::vector<std::string> pieces_;
  std::vector<TokenId> no_tokens_;
  std::string no_template_;
};

// What each push gives, then what Finish gives.
std::vector<std::string> Stream(const std::vector<std::string>& pieces) {
  std::vector<std::string> all = pieces;
  all.push_back("<end>");
  const Pieces tokenizer(all);
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> texts;
  for (size_t i = 0; i < pieces.size(); ++i) texts.push_back(decoder.Push(static_cast<TokenId>(i)));
  texts.push_back(decoder.Finish());
  return texts;
}

using Texts = std::vector<std::string>;

TEST(StreamDecoder, WholeCodePointsPassAtOnce) {
  EXPECT_EQ(Stream({" a", "\xC3\xA9", "\xF0\x9F\x98\x80!"}), (Texts{" a", "\xC3\xA9", "\xF0\x9F\x98\x80!", ""}));
}

TEST(StreamDecoder, HoldsBackHalfACodePoint) {
  EXPECT_EQ(Stream({"a\xF0", "\x9F", "\x98", "\x80z", "\xE2\x82"}),
            (Texts{"a", "", "", "\xF0\x9F\x98\x80z", "", "\uFFFD"}));
}

TEST(StreamDecoder, GivesUpAsSoonAsItIsHopeless) {
  EXPECT_EQ(Stream({"\xE2", "A"}), (Texts{"", "\uFFFDA", ""}));
  EXPECT_EQ(Stream({"\x80", "\xFF", "\xC0"}), (Texts{"\uFFFD", "\uFFFD", "\uFFFD", ""}));
  EXPECT_EQ(Stream({"\xE0", "\x80"}), (Texts{"", "\uFFFD\uFFFD", ""}));  // Overlong.
  EXPECT_EQ(Stream({"\xED", "\xA0"}), (Texts{"", "\uFFFD\uFFFD", ""}));  // Surrogate.
  EXPECT_EQ(Stream({"\xF4", "\x90"}), (Texts{"", "\uFFFD\uFFFD", ""}));  // Above U+10FFFF.
  EXPECT_EQ(Stream({"\xF0\x9F", "\xF0\x9F"}), (Texts{"", "\uFFFD", "\uFFFD"}));
}

// Table 3-8 of the Unicode standard, 14.0.
TEST(StreamDecoder, OneReplacementForEachMaximalSubpart) {
  EXPECT_EQ(Stream({"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"}),
            (Texts{"a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd", ""}));
}

TEST(StreamDecoder, SpecialTokensShowOnlyIfWanted) {
  const Pieces tokenizer({"a", "<end>"});
  StreamDecoder plain(tokenizer);
  EXPECT_EQ(plain.Push(1), "");
  StreamDecoder special(tokenizer, true);
  EXPECT_EQ(special.Push(1), "<end>");
}

TEST(StreamDecoder, CutsDoNotMatter) {
  std::mt19937 random(11);
  const std::string alphabet[] = {"a",    "\xC3\xA9", "\xE5\xAD\x97", "\xF0\x9F\x98\x80",
                                  "\x80", "\xE2",     "\xF0\x9F",     "\xED\xA0"};
  for (int round = 0; round < 200; ++round) {
    std::string bytes;
    for (int i = 0; i < 20; ++i) bytes += alphabet[random() % 8];
    const Texts whole = Stream({bytes});
    Texts pieces;
    for (size_t at = 0; at < bytes.size();) {
      const size_t length = 1 + random() % 3;
      pieces.push_back(bytes.substr(at, length));
      at += length;
    }
    std::string joined;
    for (const std::string& text : Stream(pieces)) {
      EXPECT_EQ(ValidUtf8Prefix(text), text.size());
      joined += text;
    }
    EXPECT_EQ(joined, whole[0] + whole[1]);
  }
}

}  // namespace
}  // namespace lukv
