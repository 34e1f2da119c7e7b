#include "tools/eval/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/eval/eval_fixture.h"

namespace lukv {
namespace {

using testing::HasSubstr;

ModelConfig Config() { return {.n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .context_length = 4096}; }

EvalCommand Command(std::vector<std::string> tasks, std::vector<int32_t> lengths) {
  return {.tasks = std::move(tasks),
          .lengths = std::move(lengths),
          .policies = std::vector<Policy>(3),
          .kv_memory = int64_t{1} << 30};
}

TEST(EvalRunnerOptions, HasRoomForAllPoliciesAtTheLongestLength) {
  const RunnerOptions options = *EvalRunnerOptions(Config(), Command({"vt"}, {1000, 3000, 2000}));
  EXPECT_EQ(options.max_context, 3000 + kTimedSteps);
  EXPECT_EQ(options.n_slots, 3);
  EXPECT_EQ(options.n_pages, 3u * 4 * 47);  // 3,005 entries are 47 pages of 64.
}

TEST(EvalRunnerOptions, NllNeedsRoomForTheContinuation) {
  EXPECT_EQ(EvalRunnerOptions(Config(), Command({"vt", "nll"}, {3000}))->max_context, 3512 + kTimedSteps);
  EXPECT_TRUE(EvalRunnerOptions(Config(), Command({"vt"}, {4096})).ok());
  EXPECT_THAT(EvalRunnerOptions(Config(), Command({"vt"}, {4097})).status().message(),
              HasSubstr("the model's context is 4096"));
  EXPECT_THAT(EvalRunnerOptions(Config(), Command({"nll"}, {4000})).status().message(), HasSubstr("needs 4512 tokens"));
}

TEST(EvalRunnerOptions, TakesNoMoreThanTheMemoryAllowed) {
  EvalCommand command = Command({"vt"}, {3000});
  const int64_t page_bytes = ModelRunner::PageBytes(Config(), RunnerOptions().kv_dtype, RunnerOptions().page_tokens);
  command.kv_memory = page_bytes * 200;
  EXPECT_EQ(EvalRunnerOptions(Config(), command)->n_pages, 200u);
  command.kv_memory = page_bytes * 187;  // One cache takes 188.
  EXPECT_THAT(EvalRunnerOptions(Config(), command).status().message(), HasSubstr("--kv-memory"));
}

}  // namespace
}  // namespace lukv
