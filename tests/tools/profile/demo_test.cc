// What is shipped for the demo model: the calibration set as its tokenizer sees it.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "tests/oracle/golden_files.h"
#include "tools/profile/calibration.h"

namespace lukv {
namespace {

TEST(CalibrationSet, HasTwoTextsOfAboutFourThousandTokensAndThirtyQuestionsEach) {
  const std::unique_ptr<Tokenizer> tokenizer = *LoadTokenizer(DemoModelPath());
  const std::string folder = std::string(LUKV_TEST_DATA) + "/../tools/profile/data/";
  for (const char* name : {"prose", "code"}) {
    const auto text = LoadText(*tokenizer, folder + name + ".txt", folder + name + ".questions");
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_GT(text->context.size(), 3800u) << name;
    EXPECT_LT(text->context.size(), 4300u) << name;
    EXPECT_EQ(std::set<std::vector<TokenId>>(text->questions.begin(), text->questions.end()).size(), 30u) << name;
  }
}

}  // namespace
}  // namespace lukv
