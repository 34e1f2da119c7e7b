#include "tools/eval/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "tests/tools/eval/eval_fixture.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(SplitSentences, AtEndsOfSentences) {
  EXPECT_THAT(SplitSentences("One. Two  words?\nThree!\n\nNo end"),
              ElementsAre("One.", "Two words?", "Three!", "No end"));
  EXPECT_THAT(SplitSentences("It costs 3.50 or so. Yes."), ElementsAre("It costs 3.50 or so.", "Yes."));
  EXPECT_THAT(SplitSentences(" \n"), ElementsAre());
}

TEST(RepositoryText, IsAsLargeAsTasksNeed) {
  const EvalText& text = RepositoryText();
  size_t words = 0;
  for (const Essay& essay : text.essays) {
    for (const std::string& paragraph : essay.paragraphs) {
      words += std::vector<std::string>(absl::StrSplit(paragraph, ' ')).size();
    }
  }
  EXPECT_GE(words, 6000u);
  EXPECT_GE(text.adjectives.size(), 150u);
  EXPECT_GE(text.nouns.size(), 150u);
  EXPECT_GE(text.passages.size(), 60u);
  EXPECT_GE(text.two_hop.size(), 30u);
  EXPECT_EQ(text.essay_starts.size(), text.essays.size());
  EXPECT_EQ(text.essay_starts.front(), 0u);
}

// A model that answers from the haystack itself must not be right by chance.
TEST(RepositoryText, HaystacksHoldNoNeedles) {
  const EvalText& text = RepositoryText();
  std::string all = JoinEssays(text) + text.noise;
  for (const Passage& passage : text.passages) all += passage.text;
  EXPECT_FALSE(ContainsAnyCase(all, "magic"));
  size_t digits = 0;
  for (const char c : all) {
    digits = absl::ascii_isdigit(static_cast<unsigned char>(c)) ? digits + 1 : 0;
    ASSERT_LT(digits, 7u);
  }
}

// Answers are looked for as parts of words.
TEST(RepositoryText, NoWordIsInsideAnother) {
  std::set<std::string> words(RepositoryText().adjectives.begin(), RepositoryText().adjectives.end());
  words.insert(RepositoryText().nouns.begin(), RepositoryText().nouns.end());
  EXPECT_EQ(words.size(), RepositoryText().adjectives.size() + RepositoryText().nouns.size())
      << "a word is there twice";
  for (const std::string& word : words) {
    for (const std::string& other : words) {
      EXPECT_TRUE(word == other || CountOf(word, other) == 0) << other << " in " << word;
    }
  }
}

TEST(RepositoryText, OnlyThePassageAnswersItsQuestion) {
  const EvalText& text = RepositoryText();
  const std::string essays = JoinEssays(text);
  for (const Passage& passage : text.passages) {
    for (const std::string& answer : passage.answers) {
      EXPECT_TRUE(ContainsAnyCase(passage.text, answer)) << answer;
      EXPECT_FALSE(ContainsAnyCase(passage.question, answer)) << passage.question;
      EXPECT_FALSE(ContainsAnyCase(essays, answer)) << answer;
      for (const Passage& other : text.passages) {
        if (&other == &passage) continue;
        EXPECT_FALSE(ContainsAnyCase(other.title + other.text, answer)) << answer << " in " << other.title;
      }
    }
  }
}

// The first passage names the second, which alone has the answer and which the question does not name.
TEST(RepositoryText, TwoHopsNeedBothPassages) {
  const EvalText& text = RepositoryText();
  for (const TwoHopQuestion& question : text.two_hop) {
    ASSERT_EQ(question.passages.size(), 2u);
    const Passage& first = text.passages[question.passages[0]];
    const Passage& second = text.passages[question.passages[1]];
    EXPECT_TRUE(ContainsAnyCase(first.text, second.title)) << second.title;
    EXPECT_TRUE(ContainsAnyCase(question.question, first.title) ||
                ContainsAnyCase(question.question, first.title.substr(first.title.find(' ') + 1)))
        << question.question;
    EXPECT_FALSE(ContainsAnyCase(question.question, second.title)) << question.question;
    for (const std::string& answer : question.answers) {
      EXPECT_FALSE(ContainsAnyCase(question.question, answer)) << question.question;
      for (const Passage& passage : text.passages) {
        EXPECT_EQ(ContainsAnyCase(passage.title + passage.text, answer), &passage == &second)
            << answer << " in " << passage.title;
      }
    }
  }
}

class DamagedText : public testing::Test {
 protected:
  DamagedText() {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(LUKV_TEST_DATA "/../tools/eval/data", folder_, std::filesystem::copy_options::recursive);
  }
  ~DamagedText() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::trunc) << text;
  }
  std::string Error() { return std::string(LoadEvalText(folder_).status().message()); }

  std::string folder_;
};

TEST_F(DamagedText, IsReadWhenWhole) { EXPECT_EQ(Error(), ""); }

TEST_F(DamagedText, NamesTheFile) {
  Write("passages.json", "[1]");
  EXPECT_THAT(Error(), HasSubstr("passages.json.title is missing"));
  Write("passages.json", R"([{"title": "a", "text": "b", "question": "c", "answers": [1]}])");
  EXPECT_THAT(Error(), HasSubstr("passages.json.answers holds 1"));
  Write("passages.json", R"([{"title": "a", "text": "b", "question": "c", "answers": ["d"]}])");
  EXPECT_THAT(Error(), HasSubstr("two_hop.json: no passage \"Orlen Tavish\""));
  Write("nouns.txt", "one");
  EXPECT_THAT(Error(), HasSubstr("nouns.txt"));
  std::filesystem::remove_all(folder_ + "/essays");
  EXPECT_THAT(Error(), HasSubstr("essays"));
}

}  // namespace
}  // namespace lukv
