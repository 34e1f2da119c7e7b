#include "tools/profile/profiled_context.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/evict/budget_curve.h"
#include "engine/evict/curve_solver.h"
#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"
#include "tests/oracle/naive_forward.h"

namespace lukv {
namespace {

constexpr int32_t kContext = 60;
constexpr int32_t kQuestion = 7;
constexpr int32_t kMaxNew = 12;

std::vector<TokenId> RandomTokens(uint32_t seed, size_t n) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(n);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 90);
  return tokens;
}

ProfileScorer Default(Scorer scorer) {
  const Policy policy = DefaultPolicy(scorer);
  return {.settings = policy.scorer, .sink = policy.sink, .window = policy.window};
}

const std::atomic<bool> kNeverStop = false;

class ProfiledTinyModel : public testing::TestWithParam<std::string> {
 protected:
  ProfiledTinyModel()
      : path_(GoldenPath("models/tiny/" + GetParam())),
        weights_(*OpenWeights(path_)),
        test_(path_, {.page_tokens = 8, .prefill_chunk = 16}) {}

  std::unique_ptr<ProfiledContext> Make(std::span<const TokenId> context, std::span<const ProfileScorer> scorers) {
    auto made = ProfiledContext::Make(test_.runner(), *weights_, context, kQuestion + kMaxNew, scorers, kNeverStop);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  const std::string path_;
  const std::unique_ptr<WeightSource> weights_;
  TestRunner test_;
};

// |v W_O^(h)| by its definition.
double NormThroughHead(const TensorView& output, const std::vector<double>& v, size_t kv, size_t head, size_t dim) {
  double sum = 0;
  std::vector<float> row(static_cast<size_t>(output.cols));
  for (int64_t r = 0; r < output.rows; ++r) {
    Dequantize(output.dtype, output.data + static_cast<size_t>(r) * RowBytes(output.dtype, output.cols), output.cols,
               row.data());
    double out = 0;
    for (size_t d = 0; d < dim; ++d) out += row[head * dim + d] * v[kv * dim + d];
    sum += out * out;
  }
  return std::sqrt(sum);
}

// The protocol's formula over a forward without cache, in double.
std::vector<double> NaiveImportance(const WeightSource& weights, std::span<const TokenId> tokens, size_t first_step) {
  std::vector<LayerTrace> trace;
  NaiveForward(weights, tokens, /*visible=*/nullptr, &trace);
  const ModelConfig& config = weights.config();
  const size_t heads = static_cast<size_t>(config.n_heads), kv_heads = static_cast<size_t>(config.n_kv_heads);
  const size_t dim = static_cast<size_t>(config.head_dim);
  std::vector<double> importance;
  for (size_t layer = 0; layer < trace.size(); ++layer) {
    const TensorView output = *weights.Tensor("blk." + std::to_string(layer) + ".attn_output.weight");
    std::vector<std::vector<double>> norms(heads, std::vector<double>(kContext));
    double sum = 0;
    for (size_t h = 0; h < heads; ++h) {
      for (size_t t = 0; t < kContext; ++t) {
        norms[h][t] = NormThroughHead(output, trace[layer].v[t], h * kv_heads / heads, h, dim);
        sum += norms[h][t];
      }
    }
    std::vector<double> of_layer(kv_heads * kContext, 0.0);
    for (size_t step = first_step; step < tokens.size(); ++step) {
      for (size_t h = 0; h < heads; ++h) {
        for (size_t t = 0; t < kContext; ++t) {
          double& value = of_layer[h * kv_heads / heads * kContext + t];
          value = std::max(value, trace[layer].weights[step][h][t] * norms[h][t] / sum);
        }
      }
    }
    importance.insert(importance.end(), of_layer.begin(), of_layer.end());
  }
  return importance;
}

TEST_P(ProfiledTinyModel, ImportanceIsThatOfANaiveComputation) {
  const std::vector<TokenId> context = RandomTokens(1, kContext);
  const std::vector<TokenId> question = RandomTokens(2, kQuestion);
  const auto profiled = Make(context, {});
  const auto answer = profiled->Ask(question, {.max_new = kMaxNew, .temperature = 1.0f, .seed = 3});
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->tokens.size(), size_t{kMaxNew});

  // The last token of the answer was chosen, but not decoded.
  std::vector<TokenId> all = context;
  all.insert(all.end(), question.begin(), question.end());
  all.insert(all.end(), answer->tokens.begin(), answer->tokens.end() - 1);
  const std::vector<double> expected = NaiveImportance(*weights_, all, kContext + kQuestion);
  ASSERT_EQ(answer->importance.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(answer->importance[i], expected[i], 1e-4 * expected[i] + 1e-9) << "value " << i;
  }
}

TEST_P(ProfiledTinyModel, QuestionsLeaveNothingBehind) {
  const std::vector<TokenId> context = RandomTokens(4, kContext);
  const AnswerOptions options{.max_new = kMaxNew, .temperature = 1.0f, .seed = 5};
  const auto profiled = Make(context, {});
  const uint32_t pages = test_.runner().pool().used();
  const auto first = profiled->Ask(RandomTokens(6, kQuestion), options);
  EXPECT_EQ(test_.runner().pool().used(), pages);
  ASSERT_TRUE(profiled->Ask(RandomTokens(7, 3), options).ok());
  const auto again = profiled->Ask(RandomTokens(6, kQuestion), options);
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(first->tokens, again->tokens);
  EXPECT_EQ(first->importance, again->importance);
}

INSTANTIATE_TEST_SUITE_P(Families, ProfiledTinyModel,
                         testing::Values("llama-group3", "llama-llama3-rope", "qwen2", "qwen3"), [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class ProfiledQwen2 : public ProfiledTinyModel {};
INSTANTIATE_TEST_SUITE_P(One, ProfiledQwen2, testing::Values("qwen2"));

TEST_P(ProfiledQwen2, AnAnswerEndsAtAnEndTokenButNotAtOnce) {
  const std::vector<TokenId> context = RandomTokens(8, kContext);
  const std::vector<TokenId> question = RandomTokens(9, kQuestion);
  const auto profiled = Make(context, {});
  AnswerOptions options{.max_new = kMaxNew, .temperature = 1.0f, .seed = 10};
  const auto free = profiled->Ask(question, options);
  ASSERT_TRUE(free.ok());
  // Its third token as the end token.
  const TokenId third = free->tokens[2];
  ASSERT_TRUE(free->tokens[0] != third && free->tokens[1] != third);
  options.end_ids = {third};
  const auto ended = profiled->Ask(question, options);
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(ended->tokens, (std::vector<TokenId>{free->tokens[0], free->tokens[1], third}));

  // Its first token: another is taken, and decoded.
  options.end_ids = {free->tokens[0]};
  const auto other = profiled->Ask(question, options);
  ASSERT_TRUE(other.ok());
  EXPECT_NE(other->tokens[0], free->tokens[0]);
  EXPECT_GT(*std::max_element(other->importance.begin(), other->importance.end()), 0.0f);
}

TEST_P(ProfiledQwen2, SolvesForTheOrderOfTheScorer) {
  // Two protections of one scorer among them.
  std::vector<ProfileScorer> scorers = {Default(Scorer::kExpectedAttention), Default(Scorer::kSnapKv),
                                        Default(Scorer::kKeyDiff), Default(Scorer::kKeyDiff)};
  scorers[1].settings.queries = 8;
  scorers[1].window = 8;
  scorers[3].sink = 0;
  scorers[3].window = 0;
  const auto profiled = Make(RandomTokens(11, kContext), scorers);
  const int32_t heads = weights_->config().n_layers * weights_->config().n_kv_heads;
  // One head needs half of its entries, the others need nothing.
  std::vector<float> importance(static_cast<size_t>(heads * kContext), 0.0f);
  std::fill_n(importance.begin() + kContext, kContext, 1.0f);
  for (size_t s = 0; s < scorers.size(); ++s) {
    const std::vector<float> ratios = profiled->Solve(s, importance);
    ASSERT_EQ(ratios.size(), static_cast<size_t>(BudgetCurve::kRatios * heads));
    const int32_t floor = FloorOfHead(kContext, scorers[s].sink + scorers[s].window);
    for (int32_t percent = 1; percent <= BudgetCurve::kRatios; ++percent) {
      const std::span<const float> row(&ratios[static_cast<size_t>((percent - 1) * heads)], static_cast<size_t>(heads));
      int64_t evicted = 0;
      for (const float ratio : row) evicted += std::lround(ratio * kContext);
      EXPECT_EQ(evicted, std::min<int64_t>(EntriesToEvict(percent, heads, kContext), heads * (kContext - floor)));
      // All that the others can give goes before anything of the head that is needed.
      if (row[1] > 0) {
        for (int32_t h = 0; h < heads; ++h) {
          if (h == 1) continue;
          EXPECT_FLOAT_EQ(row[static_cast<size_t>(h)], 1 - static_cast<float>(floor) / kContext);
        }
      }
    }
  }
}

TEST_P(ProfiledQwen2, StopsBetweenUnitsAndGivesItsPagesBack) {
  std::atomic<bool> stop = true;
  const std::vector<TokenId> context = RandomTokens(12, kContext);
  const auto made = ProfiledContext::Make(test_.runner(), *weights_, context, kQuestion + kMaxNew, {}, stop);
  EXPECT_EQ(made.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(test_.runner().pool().used(), 0u);
  stop = false;
  {
    const auto profiled = *ProfiledContext::Make(test_.runner(), *weights_, context, kQuestion + kMaxNew, {}, stop);
    const uint32_t pages = test_.runner().pool().used();
    stop = true;
    EXPECT_EQ(profiled->Ask(RandomTokens(13, kQuestion), {}).status().code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(test_.runner().pool().used(), pages);
  }
  EXPECT_EQ(test_.runner().pool().used(), 0u);
}

}  // namespace
}  // namespace lukv
