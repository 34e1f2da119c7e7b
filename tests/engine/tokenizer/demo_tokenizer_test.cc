// The demo model's own tokenizer (pre-tokenizer smollm) against `tokenizers`.
#include <cstdlib>
#include <random>

#include "engine/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/goldens.h"

namespace lukv {
namespace {

using ::testing::ElementsAre;

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

}  // namespace
}  // namespace lukv
