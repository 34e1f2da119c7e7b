#include "tools/eval/scoring.h"

#include <gtest/gtest.h>

namespace lukv {
namespace {

TEST(ScoreAnswer, PartOfAllReferences) {
  const EvalSample sample{.references = {"1234567", "Red-Fox", "xyz", "abc"}};
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, ": 1234567, red-fox."), 50);
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, "ABC xyz RED-FOX 12345678"), 100);
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, ""), 0);
  EXPECT_FALSE(ScoreIsFinal(sample, ": 1234567, red-fox."));
  EXPECT_TRUE(ScoreIsFinal(sample, "ABC xyz RED-FOX 12345678"));
}

TEST(ScoreAnswer, AnyReference) {
  const EvalSample sample{.references = {"walnut shells", "walnuts"}, .metric = Metric::kAnyReference};
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, "Walnuts, I think"), 100);
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, "walnut"), 0);
  EXPECT_TRUE(ScoreIsFinal(sample, "Walnuts"));
}

TEST(ScoreAnswer, BestReference) {
  const EvalSample sample{.references = {"blue", "red house"}, .metric = Metric::kTokenF1};
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, "the red house"), 100);
  EXPECT_FALSE(ScoreIsFinal(sample, "the red house"));  // More words would make it worse.
}

TEST(ScoreAnswer, FirstLineOnly) {
  const EvalSample sample{.references = {"red"}, .metric = Metric::kTokenF1, .first_line_only = true};
  EXPECT_DOUBLE_EQ(ScoreAnswer(sample, "\n\nred\nblue green"), 100);
  EXPECT_FALSE(ScoreIsFinal(sample, "\n\nred"));
  EXPECT_TRUE(ScoreIsFinal(sample, "\n\nred\n"));
}

TEST(ScoreAnswer, ReachesEveryMetric) {
  const auto score = [](Metric metric, const char* answer, const char* reference) {
    const EvalSample sample{.references = {reference}, .classes = {"Color", "Reason"}, .metric = metric};
    return ScoreAnswer(sample, answer);
  };
  EXPECT_NEAR(score(Metric::kRougeL, "a b", "a b"), 100, 1e-5);
  EXPECT_DOUBLE_EQ(score(Metric::kClassification, "Color, Reason", "Color"), 50);
  EXPECT_DOUBLE_EQ(score(Metric::kCount, "3 4", "4"), 50);
  EXPECT_DOUBLE_EQ(score(Metric::kRetrieval, "3 4", "Paragraph 4"), 50);
  EXPECT_DOUBLE_EQ(score(Metric::kCodeSimilarity, "abcd", "abxd"), 75);
}

}  // namespace
}  // namespace lukv
