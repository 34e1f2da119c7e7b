// The demo model on a CUDA device against the CPU: a prompt compressed by LU-KV, then a greedy answer. The device is
// the emulated one, or the real one, as LUKV_CUDA_LIBRARY says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/evict/budget_curve.h"
#include "engine/model/fingerprint.h"
#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

constexpr int32_t kNewTokens = 8;
constexpr Slot kEvicted{0};
constexpr Slot kFull{1};

struct Result {
  std::vector<TokenId> tokens;
  std::vector<std::vector<float>> logits;              // That the tokens were chosen from
  std::vector<std::vector<float>> scores;              // [layers], each [kv heads, context]
  std::vector<std::vector<std::vector<size_t>>> kept;  // [layers][kv heads], positions
};

EvictionPlan PlanFor(ModelRunner& runner, int32_t context) {
  const auto weights = OpenWeights(DemoModelPath());
  const CurveSet curves =
      *CurveSet::LoadFolder(std::string(LUKV_TEST_DATA) + "/../deploy/profiles/smollm2-135m-instruct", runner.config(),
                            *ModelFingerprint(**weights));
  const Policy policy = *ParsePolicy("lukv+expected_attention@0.8");
  return *EvictionPlan::Make(policy, context, runner.table().geometry(),
                             ModelRunner::PageBytes(runner.config(), runner.options().kv_dtype, 1),
                             curves.Get(policy.scorer, policy.sink, policy.window));
}

// The context compressed (and kept whole in a second slot, to look entries up in), the question, and the answer.
Result Answer(const TestRunnerOptions& options, std::span<const TokenId> context, std::span<const TokenId> question) {
  TestRunner test(DemoModelPath(), options);
  ModelRunner& runner = test.runner();
  const EvictionPlan plan = PlanFor(runner, static_cast<int32_t>(context.size()));
  Result result;
  const PrefillPrompt prompt{.context = context,
                             .targets = {{.slot = kEvicted, .plan = &plan}, {.slot = kFull}},
                             .observed_scorers = {plan.policy().scorer}};
  for (const PrefillTarget& target : prompt.targets) test.Open(target, context.size(), 0, 64);
  const auto keep_scores = [&](size_t, int32_t, const ScorerSettings&, std::span<const float> scores) {
    result.scores.emplace_back(scores.begin(), scores.end());
    return absl::OkStatus();
  };
  EXPECT_TRUE(runner.Prefill({&prompt, 1}, {.scores = keep_scores}).ok());
  for (int32_t layer = 0; layer < runner.config().n_layers; ++layer) {
    result.kept.emplace_back();
    for (int32_t head = 0; head < runner.config().n_kv_heads; ++head) {
      result.kept.back().push_back(test.KeptPositions(kEvicted, kFull, layer, head));
    }
  }
  const Position asked{static_cast<int32_t>(context.size())};
  EXPECT_TRUE(runner.GrowSlot(kEvicted, static_cast<int32_t>(question.size())).ok());
  result.logits.push_back(
      test.Prefill({.question = question, .first_position = asked, .targets = {{.slot = kEvicted}}}));
  int32_t position = Value(asked) + static_cast<int32_t>(question.size());
  while (true) {
    const std::vector<float>& logits = result.logits.back();
    result.tokens.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    if (result.tokens.size() == static_cast<size_t>(kNewTokens)) break;
    const DecodeRow row{.slot = kEvicted, .token = result.tokens.back(), .position = Position{position++}};
    result.logits.push_back(test.Step({&row, 1}));
  }
  runner.table().Release(kEvicted);
  runner.table().Release(kFull);
  return result;
}

// Positions that only one of the two keeps have nearly the same scores, and are few.
void ExpectKeptSetsAgree(const Result& cpu, const Result& cuda, double relative, double most_differences) {
  size_t kept = 0;
  size_t different = 0;
  double widest = 0;
  for (size_t layer = 0; layer < cpu.kept.size(); ++layer) {
    const size_t context = cpu.scores[layer].size() / cpu.kept[layer].size();
    for (size_t head = 0; head < cpu.kept[layer].size(); ++head) {
      const std::vector<size_t>& ours = cpu.kept[layer][head];
      const std::vector<size_t>& theirs = cuda.kept[layer][head];
      ASSERT_EQ(ours.size(), theirs.size()) << "layer " << layer << " head " << head;
      kept += ours.size();
      const auto best_of = [&](const std::vector<size_t>& some, const std::vector<size_t>& others, auto better) {
        std::vector<size_t> alone;
        std::set_difference(some.begin(), some.end(), others.begin(), others.end(), std::back_inserter(alone));
        float best = NAN;
        for (const size_t p : alone) {
          const float score = cpu.scores[layer][head * context + p];
          if (std::isnan(best) || better(score, best)) best = score;
        }
        different += alone.size();
        return best;
      };
      const float dropped = best_of(ours, theirs, std::greater<float>());
      const float taken = best_of(theirs, ours, std::less<float>());
      if (std::isnan(dropped)) continue;
      widest = std::max(widest, double{dropped - taken} / std::abs(double{dropped}));
    }
  }
  different /= 2;
  std::printf("%zu of %zu kept entries differ; widest relative gap of scores %.4f\n", different, kept, widest);
  EXPECT_LE(widest, relative);
  EXPECT_LE(static_cast<double>(different), most_differences * static_cast<double>(kept));
}

// Where the answers part, the CPU found the other token nearly as likely.
void ExpectAnswersAgree(const Result& cpu, const Result& cuda, float most_nats) {
  const auto [ours, theirs] = std::mismatch(cpu.tokens.begin(), cpu.tokens.end(), cuda.tokens.begin());
  if (ours == cpu.tokens.end()) return;
  const auto step = ours - cpu.tokens.begin();
  const std::vector<float>& logits = cpu.logits[static_cast<size_t>(step)];
  const float gap = logits[static_cast<size_t>(*ours)] - logits[static_cast<size_t>(*theirs)];
  std::printf("answers part at token %d, the CPU's logits are %.4f apart\n", static_cast<int>(step), gap);
  EXPECT_LE(gap, most_nats);
}

struct Prompt {
  size_t context;
  size_t question;
};

void Compare(DType activations, const Prompt& prompt, double gap_of_scores, double most_differences, float most_nats) {
  const std::vector<TokenId> ids = ReadGoldenJson("models/demo/prose.json")["ids"].get<std::vector<TokenId>>();
  ASSERT_GE(ids.size(), prompt.context + prompt.question);
  const std::span<const TokenId> context(ids.data(), prompt.context);
  const std::span<const TokenId> question(ids.data() + prompt.context, prompt.question);
  TestRunnerOptions options{.kv_dtype = DType::kBF16, .n_slots = 2, .max_context = 384, .device = "cpu"};
  const Result cpu = Answer(options, context, question);
  options.device = "cuda";
  options.cuda_activations = activations;
  const Result cuda = Answer(options, context, question);
  ExpectAnswersAgree(cpu, cuda, most_nats);
  ExpectKeptSetsAgree(cpu, cuda, gap_of_scores, most_differences);
}

// Keys and values are stored in 8 bits, so that a tiny difference may move a score by half a percent.
TEST(DemoOnCuda, KeepsAndAnswersAsTheCpu) {
  Compare(DType::kF32, {.context = 252, .question = 48}, 0.05, 0.005, /*most_nats=*/0.0f);
}

// What CI runs under sanitizers.
TEST(DemoOnCuda, KeepsAndAnswersAsTheCpuForAShortPrompt) {
  Compare(DType::kF32, {.context = 40, .question = 8}, 0.05, 0.01, /*most_nats=*/0.0f);
}

// Activations of 8 bits move scores and logits by more, so near-ties fall out otherwise.
TEST(DemoOnCuda, AnswersNearTheCpuWithBf16Activations) {
  Compare(DType::kBF16, {.context = 80, .question = 16}, 0.05, 0.03, /*most_nats=*/0.5f);
}

}  // namespace
}  // namespace lukv
