// The demo model's own tokenizer (pre-tokenizer smollm) against `tokenizers`.
#include <cstdlib>

#include "base/sha256.h"
#include "engine/model/gguf.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/goldens.h"

namespace lukv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string DemoModelPath() {
  const char* folder = std::getenv("LUKV_MODEL_DIR");
  const std::string base = folder != nullptr ? folder : std::string(std::getenv("HOME")) + "/.cache/lukv";
  return base + "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

class DemoTokenizerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto tokenizer = LoadTokenizer(DemoModelPath());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = tokenizer->release();
  }
  static void TearDownTestSuite() { delete tokenizer_; }
  static const Tokenizer* tokenizer_;
};
const Tokenizer* DemoTokenizerTest::tokenizer_ = nullptr;

TEST_F(DemoTokenizerTest, Properties) {
  EXPECT_EQ(tokenizer_->vocabulary(), 49152);
  EXPECT_EQ(tokenizer_->bos(), 1);
  EXPECT_FALSE(tokenizer_->adds_bos());
  EXPECT_THAT(tokenizer_->end_tokens(), ElementsAre(2, 0));
  EXPECT_TRUE(tokenizer_->IsSpecial(2));
  EXPECT_FALSE(tokenizer_->IsSpecial(17));
  EXPECT_EQ(tokenizer_->Piece(2, true), "<|im_end|>");
  EXPECT_EQ(tokenizer_->Piece(2, false), "");
  EXPECT_NE(tokenizer_->chat_template().find("named SmolLM"), std::string::npos);
}

TEST_F(DemoTokenizerTest, SameIdsAsTokenizers) {
  const std::vector<std::string> strings = GoldenStrings();
  const std::vector<GoldenIds> golden = ReadGoldenIds("smollm");
  ASSERT_GE(strings.size(), 2000u);
  ASSERT_EQ(strings.size(), golden.size());
  for (size_t i = 0; i < strings.size(); ++i) {
    EXPECT_EQ(EncodeOne(*tokenizer_, strings[i]), golden[i].plain) << "line " << i + 1 << ": " << strings[i];
    EXPECT_EQ(EncodeOne(*tokenizer_, strings[i], true), golden[i].special) << "line " << i + 1 << ": " << strings[i];
  }
}

// The model's vocabulary lacks some bytes that UTF-8 never has.
TEST_F(DemoTokenizerTest, NamesTheByteThatItCannotEncode) {
  EXPECT_EQ(tokenizer_->Decode(EncodeOne(*tokenizer_, "a\xE2\x82"), true), "a\xE2\x82");
  const TextSegment segment{.text = "abc \xFF"};
  const auto ids = tokenizer_->Encode({&segment, 1}, false);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("byte 0xFF at offset 4"));
}

TEST_F(DemoTokenizerTest, DecodesToTheText) {
  size_t compared = 0;
  for (const std::string& text : GoldenStrings()) {
    const std::string decoded = tokenizer_->Decode(EncodeOne(*tokenizer_, text), true);
    // A few rare bytes have no token, and `tokenizers` too leaves them out.
    if (text.find_first_of("\x04\x06\x13\x14\x16\x1d\xf1\xf2") != std::string::npos) continue;
    EXPECT_EQ(decoded, text);
    ++compared;
  }
  EXPECT_GE(compared, 2000u);
}

// make_gateway_goldens.py has compared this file's ids with ours, by `tokenizers`, and kept its checksum.
TEST_F(DemoTokenizerTest, TokenizerJsonIsTheOneThatWasCompared) {
  const auto file = GgufFile::Open(DemoModelPath());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto files = TokenizerJsonOfGguf(**file);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(HexSha256(files->tokenizer) + "\n", ReadGolden("../gateway/tokenizer.sha256"));
}

}  // namespace
}  // namespace lukv
