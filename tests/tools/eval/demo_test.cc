// The whole way on the demo model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "kernels/cpu/cpu_backend.h"
#include "tests/oracle/golden_files.h"
#include "tests/tools/eval/eval_fixture.h"
#include "tools/eval/evaluation.h"
#include "tools/eval/nll.h"
#include "tools/eval/ruler.h"
#include "tools/eval/scoring.h"

namespace lukv {
namespace {

class DemoEvaluation : public testing::Test {
 protected:
  void SetUp() override {
    command_ = {.tasks = {"niah_single_2", "nll"},
                .lengths = {1000},
                .samples = 1,
                .policies = *ExpandPolicies(std::vector<std::string>{"uniform+keydiff@0", "uniform+keydiff@0.9"}, {}),
                .kv_memory = int64_t{1} << 30};
    tokenizer_ = *LoadTokenizer(DemoModelPath());
    weights_ = *OpenWeights(DemoModelPath());
    backend_ = *MakeCpuBackend({.threads = 2});
    model_ = std::make_unique<Model>(*Model::Load(*weights_, *backend_));
    runner_ = *ModelRunner::Create(*model_, *backend_, *EvalRunnerOptions(weights_->config(), command_));
    policies_ =
        std::make_unique<PolicyRunner>(*runner_, *tokenizer_, *WithCurves(command_.policies, CurveSet()), stop_);
    format_ = std::make_unique<PromptFormat>(*PromptFormat::Make(PromptStyle::kCompletion, *tokenizer_));
  }

  std::atomic<bool> stop_ = false;
  EvalCommand command_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<WeightSource> weights_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<PolicyRunner> policies_;
  std::unique_ptr<PromptFormat> format_;
};

TEST_F(DemoEvaluation, TheFullCacheFindsTheNeedleAndRatioZeroSaysTheSame) {
  const EvalSample sample =
      *MakeRulerSample({.task = "niah_single_2", .length = 1000, .seed = 1}, RepositoryText(), *format_);
  const auto answers = policies_->Answer(sample, *format_->Tokenize(sample), false);
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ(ScoreAnswer(sample, (*answers)[0].text), 100) << (*answers)[0].text;
  EXPECT_EQ((*answers)[0].text, (*answers)[1].text);
  EXPECT_EQ((*answers)[0].cost.kv_bytes_resident, (*answers)[0].cost.kv_bytes_full);
  EXPECT_LT((*answers)[2].cost.kv_bytes_resident, (*answers)[0].cost.kv_bytes_full / 5);
}

TEST_F(DemoEvaluation, ReportsEveryTaskAndPolicy) {
  Evaluation evaluation(command_, RepositoryText(), *format_, *policies_);
  ASSERT_TRUE(evaluation.Check().ok());
  int32_t last = 0;
  const auto results = evaluation.Run([&](const Progress& progress) {
    EXPECT_EQ(progress.total, 2);
    last = progress.done;
  });
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(last, 2);
  ASSERT_EQ(results->size(), 6u);
  const EvalResult& full = (*results)[3];
  const EvalResult& nothing_evicted = (*results)[4];
  const EvalResult& evicted = (*results)[5];
  EXPECT_EQ(full.task, "nll");
  EXPECT_EQ(full.policy, "full");
  // Plain English prose, of a model of this size: between two and six bits a token.
  EXPECT_GT(full.score, 1.4);
  EXPECT_LT(full.score, 4.2);
  EXPECT_LT(*full.kl, 1e-6);
  EXPECT_EQ(nothing_evicted.score, full.score);
  EXPECT_LT(*nothing_evicted.kl, 1e-6);
  EXPECT_EQ(*nothing_evicted.top1, 1);
  EXPECT_NE(evicted.score, full.score);
  EXPECT_GT(*evicted.kl, 0.01);
  EXPECT_LT(*evicted.top1, 1);
  for (const EvalResult& result : *results) {
    EXPECT_EQ(result.samples, 1);
    EXPECT_GT(result.decode_s, 0);
  }
}

}  // namespace
}  // namespace lukv
