#include "tools/eval/ruler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "tests/tools/eval/eval_fixture.h"
#include "tools/eval/ruler_tasks.h"
#include "tools/eval/scoring.h"

namespace lukv {
namespace {

using testing::HasSubstr;

class Ruler : public testing::Test {
 protected:
  EvalSample Make(std::string_view task, int32_t length, int32_t index, uint64_t seed = 1) {
    const auto sample =
        MakeRulerSample({.task = task, .length = length, .seed = seed, .index = index}, RepositoryText(), format_);
    EXPECT_TRUE(sample.ok()) << sample.status();
    return sample.ok() ? *sample : EvalSample{};
  }
  int32_t Tokens(const EvalSample& sample) {
    return static_cast<int32_t>(format_.Tokenize(sample)->size()) + sample.max_new_tokens;
  }

  WordTokenizer tokenizer_;
  PromptFormat format_ = *PromptFormat::Make(PromptStyle::kCompletion, tokenizer_);
};

TEST_F(Ruler, EveryTaskFillsTheLengthAndNoMore) {
  for (const std::string_view task : RulerTaskNames()) {
    for (const int32_t length : {1500, 3000, 6000}) {
      const EvalSample sample = Make(task, length, 0);
      EXPECT_LE(Tokens(sample), length) << task;
      // One more piece of haystack (a passage is the largest) would be too much.
      EXPECT_GT(Tokens(sample), length - 180) << task;
    }
  }
}

TEST_F(Ruler, LongContextsNeedNoMoreData) {
  for (const std::string_view task : RulerTaskNames()) {
    EXPECT_GT(Tokens(Make(task, 30000, 0)), 29800) << task;
  }
}

TEST_F(Ruler, SameRequestSameSampleOtherwiseAnother) {
  for (const std::string_view task : RulerTaskNames()) {
    const EvalSample sample = Make(task, 1500, 2);
    const EvalSample again = Make(task, 1500, 2);
    EXPECT_EQ(sample.context, again.context) << task;
    EXPECT_EQ(sample.question, again.question) << task;
    EXPECT_EQ(sample.references, again.references) << task;
    EXPECT_NE(sample.context, Make(task, 1500, 3).context) << task;
    EXPECT_NE(sample.context, Make(task, 1500, 2, 7).context) << task;
    EXPECT_NE(sample.references, Make(task, 1500, 3).references) << task;
  }
}

// How often the task's text has each of its answers.
size_t Wanted(std::string_view task, size_t reference, size_t references) {
  if (task == "vt") return reference + 1 == references ? 1 : 2;  // Assigned, and assigned from.
  if (task == "cwe") return 6;
  return 1;
}

TEST_F(Ruler, ReferencesAreInTheContextAsOftenAsTheyShould) {
  for (const std::string_view task : RulerTaskNames()) {
    if (task == "fwe" || task.starts_with("qa")) continue;
    for (int32_t index = 0; index < 20; ++index) {
      const EvalSample sample = Make(task, 1500, index);
      // A solved example in front may use the same words.
      const size_t start = task == "cwe" ? sample.context.rfind("\n\n") : 0;
      const std::string text = sample.context.substr(start);
      for (size_t r = 0; r < sample.references.size(); ++r) {
        EXPECT_EQ(CountOf(text, sample.references[r]), Wanted(task, r, sample.references.size()))
            << task << " " << index << " " << sample.references[r];
      }
    }
  }
}

TEST_F(Ruler, TheQuestionDoesNotGiveTheAnswer) {
  for (const std::string_view task : RulerTaskNames()) {
    for (int32_t index = 0; index < 20; ++index) {
      const EvalSample sample = Make(task, 1500, index);
      EXPECT_EQ(ScoreAnswer(sample, sample.question + sample.answer_prefix), 0) << task << " " << sample.question;
      EXPECT_EQ(ScoreAnswer(sample, sample.context), 100) << task;
    }
  }
}

TEST_F(Ruler, NumbersOfNeedlesAndAnswers) {
  const auto needles = [&](std::string_view task) {
    return CountOf(Make(task, 1500, 0).context, "One of the special magic");
  };
  const auto answers = [&](std::string_view task) { return Make(task, 1500, 0).references.size(); };
  for (const std::string_view task : {"niah_single_1", "niah_single_2", "niah_single_3"}) {
    EXPECT_EQ(needles(task), 1u);
    EXPECT_EQ(answers(task), 1u);
  }
  EXPECT_EQ(needles("niah_multikey_1"), 4u);
  EXPECT_EQ(answers("niah_multikey_1"), 1u);
  EXPECT_GT(needles("niah_multikey_2"), 30u);
  EXPECT_EQ(answers("niah_multikey_2"), 1u);
  EXPECT_GT(needles("niah_multikey_3"), 10u);
  EXPECT_EQ(needles("niah_multivalue"), 4u);
  EXPECT_EQ(answers("niah_multivalue"), 4u);
  EXPECT_EQ(needles("niah_multiquery"), 4u);
  EXPECT_EQ(answers("niah_multiquery"), 4u);
  EXPECT_EQ(answers("vt"), 5u);
  EXPECT_EQ(answers("cwe"), 10u);
  EXPECT_EQ(answers("fwe"), 3u);
}

TEST_F(Ruler, FormsOfKeysAndValues) {
  const auto matches = [&](std::string_view task, const char* form) {
    const EvalSample sample = Make(task, 1500, 0);
    return std::regex_search(sample.context, std::regex(form));
  };
  EXPECT_TRUE(matches("niah_single_1", "One of the special magic numbers for [a-z]+-[a-z]+ is: [1-9][0-9]{6}\\."));
  constexpr char kUuid[] = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
  EXPECT_TRUE(matches("niah_single_3",
                      (std::string("One of the special magic uuids for [a-z]+-[a-z]+ is: ") + kUuid + "\\.").c_str()));
  EXPECT_TRUE(matches("niah_multikey_3", (std::string("magic uuids for ") + kUuid + " is: " + kUuid + "\\.").c_str()));
  EXPECT_TRUE(matches("vt", "VAR [A-Z]{5} = [1-9][0-9]{4}\n"));
  EXPECT_TRUE(matches("vt", "VAR [A-Z]{5} = VAR [A-Z]{5}\n"));
  EXPECT_TRUE(matches("cwe", "\n1\\. [a-z]+ 2\\. [a-z]+ 3\\. "));
}

// Depths are spread over the whole context.
TEST_F(Ruler, NeedlesStandAtAllDepths) {
  double least = 1, most = 0, sum = 0;
  constexpr int kSamples = 60;
  std::set<int> tenths;
  for (int32_t index = 0; index < kSamples; ++index) {
    const EvalSample sample = Make("niah_single_2", 1500, index);
    const double depth = static_cast<double>(sample.context.find(sample.references.front())) /
                         static_cast<double>(sample.context.size());
    least = std::min(least, depth);
    most = std::max(most, depth);
    sum += depth;
    tenths.insert(static_cast<int>(10 * depth));
  }
  EXPECT_LT(least, 0.1);
  EXPECT_GT(most, 0.9);
  EXPECT_NEAR(sum / kSamples, 0.5, 0.12);
  EXPECT_GE(tenths.size(), 8u);
}

TEST(DrawDepths, AreFortyPoints) {
  Random random(3);
  const std::vector<int32_t> depths = DrawDepths(40, random);
  EXPECT_EQ(depths.front(), 0);
  EXPECT_EQ(depths.back(), 100);
  EXPECT_EQ(std::set<int32_t>(depths.begin(), depths.end()).size(), 40u);
  EXPECT_EQ(DepthIndex(0, 50), 0u);
  EXPECT_EQ(DepthIndex(100, 50), 50u);
  EXPECT_EQ(DrawDepths(4, random).size(), 4u);
}

TEST_F(Ruler, EssaysStayInOrder) {
  const EvalSample sample = Make("niah_single_2", 1500, 0);
  const EvalText& text = RepositoryText();
  size_t found = 0;
  for (const size_t start : text.essay_starts) {
    // The sentences after the first one, with the needle between any two of them.
    size_t at = sample.context.find("\n\n" + text.essay_sentences[start] + " ");
    if (at == std::string::npos) continue;
    ++found;
    for (size_t i = start; i < start + 20; ++i) {
      const size_t next = sample.context.find(text.essay_sentences[i], at);
      ASSERT_NE(next, std::string::npos);
      ASSERT_GE(next, at);
      at = next + text.essay_sentences[i].size();
    }
  }
  EXPECT_EQ(found, 1u);
}

TEST_F(Ruler, CodedWordsComeByTheirRank) {
  const EvalSample sample = Make("fwe", 3000, 0);
  const size_t first = CountOf(sample.context, sample.references[0]);
  const size_t second = CountOf(sample.context, sample.references[1]);
  const size_t third = CountOf(sample.context, sample.references[2]);
  EXPECT_GT(CountOf(sample.context, "..."), first);
  EXPECT_NEAR(static_cast<double>(first) / static_cast<double>(second), 9.0 / 4, 0.3);
  EXPECT_NEAR(static_cast<double>(second) / static_cast<double>(third), 16.0 / 9, 0.3);
  std::map<std::string, size_t> counts;
  const std::regex word("[a-z]{6}");
  const std::string coded = sample.context.substr(sample.context.find("\n\n"));
  for (auto it = std::sregex_iterator(coded.begin(), coded.end(), word); it != std::sregex_iterator(); ++it) {
    ++counts[it->str()];
  }
  for (const auto& [name, count] : counts) {
    const bool is_answer =
        std::find(sample.references.begin(), sample.references.end(), name) != sample.references.end();
    EXPECT_TRUE(is_answer || count < third) << name;
  }
}

TEST_F(Ruler, LongListsRepeatMore) {
  const EvalSample sample = Make("cwe", 6000, 0);
  const std::string list = sample.context.substr(sample.context.rfind("\n\n"));
  for (const std::string& word : sample.references) EXPECT_EQ(CountOf(list, " " + word), 30u) << word;
}

TEST_F(Ruler, QuestionsOfPassagesComeOnceEach) {
  for (const auto& [task, n] :
       {std::pair("qa_1", RepositoryText().passages.size()), std::pair("qa_2", RepositoryText().two_hop.size())}) {
    std::set<std::string> questions;
    for (size_t i = 0; i < n; ++i) questions.insert(Make(task, 800, static_cast<int32_t>(i)).question);
    EXPECT_EQ(questions.size(), n);
  }
}

TEST_F(Ruler, PassagesAreAmongOthersAtAnyPlace) {
  std::set<size_t> places;
  for (int32_t index = 0; index < 20; ++index) {
    const EvalSample sample = Make("qa_1", 3000, index);
    const size_t answer = sample.context.find(sample.references.front());
    places.insert(CountOf(sample.context.substr(0, answer), "Document "));
    EXPECT_GT(CountOf(sample.context, "Document "), 20u);
  }
  EXPECT_GT(places.size(), 8u);
}

TEST_F(Ruler, RefusesWhatCannotBe) {
  const auto error = [&](std::string_view task, int32_t length) {
    return MakeRulerSample({.task = task, .length = length}, RepositoryText(), format_).status();
  };
  EXPECT_THAT(error("niah_single_9", 1000).message(), HasSubstr("niah_single_9"));
  for (const std::string_view task : RulerTaskNames()) {
    EXPECT_EQ(error(task, 120).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(error(task, 120).message(), HasSubstr("tokens at least, the length is 120"));
  }
}

}  // namespace
}  // namespace lukv
