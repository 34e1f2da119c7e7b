#include "tools/eval/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace lukv {
namespace {

using testing::HasSubstr;
using testing::Not;

EvalResult Result(const std::string& task, int32_t length, const std::string& policy, double ratio, double score) {
  return {.task = task,
          .length = length,
          .policy = policy,
          .ratio = ratio,
          .score = score,
          .samples = 4,
          .kv_bytes_full = 10 << 20,
          .kv_bytes_resident = std::llround((10 << 20) * (1 - ratio)),
          .prefill_s = 1.5,
          .decode_s = 0.004};
}

// vt is below 50 with the full cache.
std::vector<EvalResult> Results() {
  return {Result("niah_single_1", 1500, "full", 0, 90),
          Result("niah_single_1", 1500, "lukv+keydiff@0.8", 0.8, 45),
          Result("niah_single_1", 1500, "lukv+keydiff@0.5", 0.5, 90),
          Result("qa_1", 1500, "full", 0, 50),
          Result("qa_1", 1500, "lukv+keydiff@0.8", 0.8, 25),
          Result("qa_1", 1500, "lukv+keydiff@0.5", 0.5, 50),
          Result("vt", 1500, "full", 0, 49.9),
          Result("vt", 1500, "lukv+keydiff@0.8", 0.8, 100),
          Result("vt", 1500, "lukv+keydiff@0.5", 0.5, 100)};
}

TEST(ResultsJson, HasTheFieldsOfTheContract) {
  std::vector<EvalResult> results = {Results()[1]};
  results.push_back(Result("nll", 4000, "full", 0, 2.5));
  results[1].kl = 0.25;
  results[1].top1 = 0.75;
  const nlohmann::json json = nlohmann::json::parse(ResultsJson(results));
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0], nlohmann::json({{"task", "niah_single_1"},
                                     {"length", 1500},
                                     {"policy", "lukv+keydiff@0.8"},
                                     {"ratio", 0.8},
                                     {"score", 45.0},
                                     {"samples", 4},
                                     {"kv_bytes_full", 10485760},
                                     {"kv_bytes_resident", 2097152},
                                     {"prefill_s", 1.5},
                                     {"decode_s", 0.004}}));
  EXPECT_EQ(json[1]["kl"], 0.25);
  EXPECT_EQ(json[1]["top1"], 0.75);
  EXPECT_EQ(nlohmann::json::parse(ResultsJson({})), nlohmann::json::array());
}

TEST(Counts, NeedsAFullCacheThatKnowsTheAnswer) {
  const std::vector<EvalResult> results = Results();
  EXPECT_TRUE(Counts(results, "niah_single_1", 1500));
  EXPECT_TRUE(Counts(results, "qa_1", 1500));
  EXPECT_FALSE(Counts(results, "vt", 1500));
  EXPECT_FALSE(Counts(results, "qa_1", 3000));
}

TEST(ResultsMarkdown, LeavesTasksThatSayNothingOutOfTheMean) {
  const std::string text = ResultsMarkdown(Results());
  EXPECT_THAT(text, HasSubstr("### 1500 tokens, 4 samples a task"));
  EXPECT_THAT(text, HasSubstr("vt*"));
  EXPECT_THAT(text, Not(HasSubstr("qa_1*")));
  EXPECT_THAT(text, HasSubstr("The full cache scores below 50 here"));
  // Of the full row, of 0.8: 45 of 90, 25 of 50, and 35 of 70 in the mean.
  EXPECT_THAT(text, testing::ContainsRegex("\\| full +\\| +90\\.0 \\| +50\\.0 \\| +49\\.9 \\| +70\\.0 \\| +10\\.0 MiB "
                                           "\\(100\\.0%\\) \\| +4\\.00 \\|"));
  EXPECT_THAT(
      text, testing::ContainsRegex("\\| lukv\\+keydiff@0\\.8 \\| +45\\.0 \\(50%\\) \\| +25\\.0 \\(50%\\) \\| +100\\.0 "
                                   "\\(200%\\) \\| +35\\.0 \\(50%\\) \\| +2\\.0 MiB \\(20\\.0%\\)"));
}

TEST(ResultsMarkdown, SummaryOverRatiosAndLengths) {
  std::vector<EvalResult> results = Results();
  results.push_back(Result("niah_single_1", 3000, "full", 0, 100));
  results.push_back(Result("niah_single_1", 3000, "lukv+keydiff@0.8", 0.8, 20));
  const std::string text = ResultsMarkdown(results);
  const std::string summary = text.substr(text.find("### Mean score by compression ratio"));
  EXPECT_THAT(summary, testing::ContainsRegex("\\| policy +\\| +0\\.5 \\| +0\\.8 \\|"));
  EXPECT_THAT(summary, testing::ContainsRegex("\\| full +\\| +80\\.0 \\| +80\\.0 \\|"));  // 90, 50, 100
  EXPECT_THAT(summary,
              testing::ContainsRegex("\\| lukv\\+keydiff +\\| +70\\.0 \\| +30\\.0 \\|"));  // 90, 50; 45, 25, 20
}

TEST(ResultsMarkdown, NoSummaryOfOneRatioAtOneLength) {
  const std::vector<EvalResult> results = {Results()[0], Results()[1]};
  EXPECT_THAT(ResultsMarkdown(results), Not(HasSubstr("Mean score by compression ratio")));
}

TEST(ResultsMarkdown, NllHasATableOfItsOwn) {
  std::vector<EvalResult> results = {Result("nll", 4096, "full", 0, 2.5),
                                     Result("nll", 4096, "uniform+snapkv@0.8", 0.8, 2.75)};
  results[1].kl = 0.125;
  results[1].top1 = 0.875;
  const std::string text = ResultsMarkdown(results);
  EXPECT_THAT(text, HasSubstr("nats per token"));
  EXPECT_THAT(text,
              testing::ContainsRegex("uniform\\+snapkv@0\\.8 \\| +4096 \\| +2\\.7500 \\| +\\+0\\.2500 \\| +0\\.1250 "
                                     "\\| +87\\.5%"));
  EXPECT_THAT(text, Not(HasSubstr("### 4096 tokens")));
}

TEST(ResultsMarkdown, WithoutAFullCacheNothingCounts) {
  const std::vector<EvalResult> results = {Results()[1]};
  EXPECT_THAT(ResultsMarkdown(results), testing::ContainsRegex("45\\.0 \\(-\\) \\| +- \\|"));
}

TEST(WithoutRatio, KeepsOptionsAndOtherBudgets) {
  const auto name = [](const std::string& policy) { return WithoutRatio(Result("vt", 1, policy, 0.8, 0)); };
  EXPECT_EQ(name("full"), "full");
  EXPECT_EQ(name("lukv+keydiff@0.8"), "lukv+keydiff");
  EXPECT_EQ(name("lukv+keydiff@1e-05"), "lukv+keydiff");
  EXPECT_EQ(name("lukv+keydiff@0.8:sink=8,window=2"), "lukv+keydiff:sink=8,window=2");
  EXPECT_EQ(name("lukv+keydiff@512tokens"), "lukv+keydiff@512tokens");
  EXPECT_EQ(name("lukv+keydiff@99bytes:sink=8"), "lukv+keydiff@99bytes:sink=8");
}

}  // namespace
}  // namespace lukv
