// Policies over a tiny model: what is measured does not depend on how the policies share the pages.
#include "tools/eval/runner_eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"
#include "tests/server/fake_tokenizer.h"

namespace lukv {
namespace {

using testing::SizeIs;

constexpr char kModel[] = "models/tiny/llama-group3";
constexpr int32_t kPageTokens = 8;
constexpr int32_t kMaxContext = 120;

std::vector<TokenId> RandomIds(size_t n) {
  std::mt19937 random(5);
  std::vector<TokenId> ids(n);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % 101);
  return ids;
}

std::vector<EvalPolicy> Policies() {
  const std::vector<std::string> names = {"uniform+keydiff@0", "uniform+keydiff@0.8", "adakv+expected_attention@0.5",
                                          "pyramidkv+snapkv@0.7", "uniform+knorm@0.95"};
  return *WithCurves(*ExpandPolicies(names, {}), CurveSet());
}

// Pages for `full_caches` caches of kMaxContext entries.
TestRunner MakeRunner(int32_t full_caches) {
  return TestRunner(GoldenPath(kModel),
                    {.page_tokens = kPageTokens, .n_slots = full_caches, .max_context = kMaxContext, .threads = 1});
}

const SampleTokens& Tokens() {
  static const SampleTokens tokens = [] {
    const std::vector<TokenId> ids = RandomIds(91);
    return SampleTokens{.context = {ids.begin(), ids.begin() + 80}, .question = {ids.begin() + 80, ids.end()}};
  }();
  return tokens;
}

// The tiny model's tokens are bytes below 101.
const EvalSample kSample = {.references = {"no such thing"}, .max_new_tokens = 12};

class RunnerEval : public testing::Test {
 protected:
  std::vector<PolicyAnswer> Answer(TestRunner& test, bool time_decode = false, const EvalSample& sample = kSample) {
    PolicyRunner runner(test.runner(), tokenizer_, Policies(), stop_);
    auto answers = runner.Answer(sample, Tokens(), time_decode);
    EXPECT_TRUE(answers.ok()) << answers.status();
    EXPECT_EQ(test.runner().pool().used(), 0u);
    return answers.ok() ? *std::move(answers) : std::vector<PolicyAnswer>(Policies().size());
  }

  std::atomic<bool> stop_ = false;
  FakeTokenizer tokenizer_;
};

TEST_F(RunnerEval, FullAndNothingEvictedAnswerAsThePlainModel) {
  TestRunner test = MakeRunner(6);
  const std::vector<PolicyAnswer> answers = Answer(test);
  std::vector<TokenId> prompt = Tokens().context;
  prompt.insert(prompt.end(), Tokens().question.begin(), Tokens().question.end());
  const std::string plain = tokenizer_.Decode(test.Greedy(prompt, kSample.max_new_tokens), false);
  ASSERT_THAT(plain, SizeIs(kSample.max_new_tokens));
  EXPECT_EQ(answers[0].text, plain);
  EXPECT_EQ(answers[1].text, plain);
  EXPECT_NE(answers.back().text, plain);
}

TEST_F(RunnerEval, RoundsChangeNoAnswerAndNoBytes) {
  TestRunner all_at_once = MakeRunner(6);
  const std::vector<PolicyAnswer> expected = Answer(all_at_once);
  for (const int32_t full_caches : {1, 2, 3}) {
    TestRunner test = MakeRunner(full_caches);
    const std::vector<PolicyAnswer> answers = Answer(test);
    for (size_t p = 0; p < answers.size(); ++p) {
      EXPECT_EQ(answers[p].text, expected[p].text) << full_caches << " " << p;
      EXPECT_EQ(answers[p].cost.kv_bytes_resident, expected[p].cost.kv_bytes_resident);
      EXPECT_GT(answers[p].cost.prefill_s, 0);
    }
  }
}

TEST_F(RunnerEval, CountsThePagesOfContextAndQuestion) {
  TestRunner test = MakeRunner(6);
  const std::vector<PolicyAnswer> answers = Answer(test);
  const ModelConfig& config = test.runner().config();
  const int64_t page_bytes = ModelRunner::PageBytes(config, DType::kF32, kPageTokens);
  const int64_t heads = int64_t{config.n_layers} * config.n_kv_heads;
  for (const PolicyAnswer& answer : answers) EXPECT_EQ(answer.cost.kv_bytes_full, 12 * heads * page_bytes);  // 91 of 8
  EXPECT_EQ(answers[0].cost.kv_bytes_resident, answers[0].cost.kv_bytes_full);
  EXPECT_EQ(answers[1].cost.kv_bytes_resident, answers[0].cost.kv_bytes_full);
  EXPECT_EQ(answers[2].cost.kv_bytes_resident, 4 * heads * page_bytes);  // 16 of 80, and 11
  EXPECT_EQ(answers[5].cost.kv_bytes_resident, 2 * heads * page_bytes);  // 4 of 80, and 11
  EXPECT_EQ(answers[0].cost.ratio, 0);
  EXPECT_EQ(answers[2].cost.ratio, 0.8);
}

TEST_F(RunnerEval, TimesOnlyWhenAsked) {
  TestRunner test = MakeRunner(6);
  const std::vector<PolicyAnswer> untimed = Answer(test), timed = Answer(test, true);
  for (size_t p = 0; p < timed.size(); ++p) {
    EXPECT_FALSE(untimed[p].cost.decode_s.has_value());
    ASSERT_TRUE(timed[p].cost.decode_s.has_value());
    EXPECT_GT(*timed[p].cost.decode_s, 0);
    EXPECT_EQ(timed[p].text, untimed[p].text);
  }
}

TEST_F(RunnerEval, EndsWhenTheReferenceIsFound) {
  TestRunner test = MakeRunner(6);
  const std::string plain = Answer(test)[0].text;
  EvalSample sample = kSample;
  sample.references = {plain.substr(2, 3)};
  const std::string found = Answer(test, false, sample)[0].text;
  EXPECT_EQ(found, plain.substr(0, found.size()));
  EXPECT_TRUE(found.ends_with(plain.substr(2, 3)));
  EXPECT_LT(found.size(), plain.size());
}

TEST_F(RunnerEval, StopsWhenToldTo) {
  TestRunner test = MakeRunner(6);
  stop_ = true;
  PolicyRunner runner(test.runner(), tokenizer_, Policies(), stop_);
  EXPECT_EQ(runner.Answer(kSample, Tokens(), false).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(test.runner().pool().used(), 0u);
}

TEST_F(RunnerEval, SaysWhenOneCacheAloneIsTooMuch) {
  TestRunner test(GoldenPath(kModel), {.page_tokens = kPageTokens, .n_slots = 1, .max_context = 40, .threads = 1});
  PolicyRunner runner(test.runner(), tokenizer_, Policies(), stop_);
  const absl::Status status = runner.Answer(kSample, Tokens(), false).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), testing::HasSubstr("--kv-memory"));
}

TEST(Likeliest, TiesGoToTheLowerId) {
  EXPECT_EQ(Likeliest(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(Likeliest(std::vector<float>{-1}), 0);
}

}  // namespace
}  // namespace lukv
