#include "tools/profile/calibration.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tests/engine/model/status_matchers.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;

class Calibration : public testing::Test {
 protected:
  Calibration() {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("lukv_calibration_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    Write("text", "A short story.\nIt ends here.\n\n");
    Write("questions", "How long is it?\n\n  Where does it end?\tIt ends\r\n");
  }
  ~Calibration() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& contents) {
    std::ofstream(folder_ / name, std::ios::binary) << contents;
  }
  absl::StatusOr<ProfileText> Load(const std::string& text, const std::string& questions) {
    return LoadText(*tokenizer_, (folder_ / text).string(), (folder_ / questions).string());
  }

  fs::path folder_;
  std::unique_ptr<Tokenizer> tokenizer_ = *LoadTokenizer(GoldenPath("tokenizer/qwen2"));
};

TEST_F(Calibration, ATextAndItsQuestionsAreTokens) {
  const auto text = Load("text", "questions");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->name, "text");
  EXPECT_EQ(tokenizer_->Decode(text->context, true), "A short story.\nIt ends here.");
  ASSERT_EQ(text->questions.size(), 2u);
  EXPECT_EQ(tokenizer_->Decode(text->questions[0], true), "\n\nQuestion: How long is it?\nAnswer:");
  EXPECT_EQ(tokenizer_->Decode(text->questions[1], true), "\n\nQuestion: Where does it end?\nAnswer: It ends");
}

TEST_F(Calibration, WhatIsMissingIsNamed) {
  Write("empty", " \n \n");
  ExpectStatus(Load("none", "questions").status(), StatusCode::kNotFound, "none: cannot open");
  ExpectStatus(Load("text", "none").status(), StatusCode::kNotFound, "none: cannot open");
  ExpectStatus(Load("empty", "questions").status(), StatusCode::kInvalidArgument, "empty: there is no text");
  ExpectStatus(Load("text", "empty").status(), StatusCode::kInvalidArgument, "empty: there is no question");
}

// A tokenizer that wants a token at the beginning gets it before the text, and not before the questions.
TEST_F(Calibration, TheBeginningOfTextStandsBeforeTheTextAlone) {
  tokenizer_ = *LoadTokenizer(GoldenPath("tokenizer/sentencepiece"));
  ASSERT_TRUE(tokenizer_->adds_bos());
  const auto text = Load("text", "questions");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->context.front(), tokenizer_->bos());
  for (const std::vector<TokenId>& question : text->questions) EXPECT_NE(question.front(), tokenizer_->bos());
}

}  // namespace
}  // namespace lukv
