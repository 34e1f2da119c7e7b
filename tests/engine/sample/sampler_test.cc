#include "engine/sample/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "tests/engine/test_backend.h"

namespace lukv {
namespace {

using ::testing::ElementsAre;

const std::vector<TokenId> kPrompt = {2, 2, 3};

// What the backend makes of a batch over one row of logits.
struct Outcome {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  std::vector<TokenId> top;  // Of the first row
  std::vector<float> top_logprobs;
};

Outcome Run(const SampleBatch& batch, const std::vector<float>& logits) {
  const std::unique_ptr<Backend> backend = MakeTestBackend({.threads = 1});
  std::vector<DeviceBuffer> buffers;
  const auto device = [&](const void* data, size_t bytes) {
    buffers.push_back(*backend->Allocate(bytes));
    EXPECT_TRUE(backend->CopyToDevice(buffers.back().data(), data, bytes).ok());
    return buffers.back().data();
  };
  const size_t n = batch.rows.size();
  Outcome outcome{.tokens = std::vector<TokenId>(n), .logprobs = std::vector<float>(n)};
  for (const SampleRow& row : batch.rows) outcome.top.resize(std::max(outcome.top.size(), size_t(row.n_top)));
  outcome.top_logprobs.resize(outcome.top.size());
  Matrix matrix{.rows = 1, .cols = static_cast<int64_t>(logits.size()), .stride = static_cast<int64_t>(logits.size())};
  matrix.data = device(logits.data(), logits.size() * sizeof(float));
  const std::vector<float> all_top(n * outcome.top.size());
  const SampleArgs args{.logits = matrix,
                        .rows = static_cast<SampleRow*>(device(batch.rows.data(), n * sizeof(SampleRow))),
                        .n_rows = static_cast<int32_t>(n),
                        .adjustments = static_cast<TokenAdjustment*>(
                            device(batch.adjustments.data(), batch.adjustments.size() * sizeof(TokenAdjustment))),
                        .n_adjustments = static_cast<int32_t>(batch.adjustments.size()),
                        .max_top = static_cast<int32_t>(outcome.top.size()),
                        .tokens = static_cast<int32_t*>(device(outcome.tokens.data(), n * sizeof(int32_t))),
                        .logprobs = static_cast<float*>(device(outcome.logprobs.data(), n * sizeof(float))),
                        .top_tokens = static_cast<int32_t*>(device(all_top.data(), all_top.size() * sizeof(float))),
                        .top_logprobs = static_cast<float*>(device(all_top.data(), all_top.size() * sizeof(float)))};
  EXPECT_TRUE(backend->Sample(args).ok());
  const auto host = [&](auto& values, const void* from) {
    EXPECT_TRUE(backend->CopyToHost(values.data(), from, values.size() * sizeof(values[0])).ok());
  };
  host(outcome.tokens, args.tokens);
  host(outcome.logprobs, args.logprobs);
  host(outcome.top, args.top_tokens);
  host(outcome.top_logprobs, args.top_logprobs);
  return outcome;
}

TokenId Choose(Sampler& sampler, const std::vector<float>& logits) {
  SampleBatch batch;
  sampler.AddRow(0, -1, batch);
  const TokenId token = Run(batch, logits).tokens.front();
  sampler.Took(token);
  return token;
}

// How often each id is drawn in `draws` independent steps (one step each of `draws` samplers with different seeds).
std::map<TokenId, int> Histogram(SamplingParams params, const std::vector<float>& logits, int draws) {
  SampleBatch batch;
  for (int i = 0; i < draws; ++i) {
    params.seed = static_cast<uint64_t>(i);
    Sampler(params, kPrompt, 0, 0, {}).AddRow(0, -1, batch);
  }
  std::map<TokenId, int> counts;
  for (const TokenId token : Run(batch, logits).tokens) ++counts[token];
  return counts;
}

std::set<TokenId> Support(const SamplingParams& params, const std::vector<float>& logits) {
  std::set<TokenId> ids;
  for (const auto& [id, count] : Histogram(params, logits, 300)) ids.insert(id);
  return ids;
}

std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  return logits;
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowerIdOfATie) {
  Sampler sampler({.temperature = 0}, kPrompt, 0, 0, {});
  EXPECT_EQ(Choose(sampler, std::vector<float>{1, 5, 5, -2}), 1);
}

TEST(Sampler, NanLogitsAreNeverChosen) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits = {nan, 0.5f, nan, 0.25f};
  Sampler greedy({.temperature = 0}, kPrompt, 0, 0, {});
  EXPECT_EQ(Choose(greedy, logits), 1);
  EXPECT_EQ(Support({.temperature = 1}, logits), (std::set<TokenId>{1, 3}));
}

TEST(Sampler, DrawsFromTheSoftmax) {
  const std::vector<double> p = {0.5, 0.25, 0.15, 0.1};
  const int draws = 1000;
  auto counts = Histogram({.temperature = 1}, LogitsOf(p), draws);
  for (size_t i = 0; i < p.size(); ++i) {
    const double sigma = std::sqrt(p[i] * (1 - p[i]) / draws);
    EXPECT_NEAR(counts[static_cast<TokenId>(i)] / double{draws}, p[i], 5 * sigma) << "id " << i;
  }
}

TEST(Sampler, TemperatureSharpensTheSoftmax) {
  const std::vector<double> p = {0.6, 0.4};
  auto counts = Histogram({.temperature = 0.5f}, LogitsOf(p), 1000);
  EXPECT_NEAR(counts[0] / 1000.0, 0.36 / (0.36 + 0.16), 0.075);
}

TEST(Sampler, FiltersKeepWhatTheyShould) {
  const std::vector<float> logits = LogitsOf({0.4, 0.3, 0.2, 0.1});
  EXPECT_EQ(Support({.top_k = 2}, logits), (std::set<TokenId>{0, 1}));
  // 0.4 + 0.3 reaches 0.6; 0.4 alone does not.
  EXPECT_EQ(Support({.top_p = 0.6f}, logits), (std::set<TokenId>{0, 1}));
  EXPECT_EQ(Support({.top_p = 0.39f}, logits), (std::set<TokenId>{0}));
  EXPECT_EQ(Support({.min_p = 0.45f}, logits), (std::set<TokenId>{0, 1, 2}));
  // top_p is a share of what top_k left: 0.4 / 0.7 < 0.6.
  EXPECT_EQ(Support({.top_k = 2, .top_p = 0.6f}, logits), (std::set<TokenId>{0, 1}));
  EXPECT_EQ(Support({.top_k = 2, .top_p = 0.55f}, logits), (std::set<TokenId>{0}));
}

TEST(Sampler, TopPOfAWideFlatDistributionKeepsItsShare) {
  const std::vector<float> logits(4000, 1.0f);
  std::set<TokenId> ids = Support({.top_p = 0.5f}, logits);
  EXPECT_LT(*ids.rbegin(), 2000);  // Ties go to the lower ids: exactly half of them are left.
  EXPECT_GT(*ids.rbegin(), 1900);
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  // Repetition divides positive and multiplies negative logits of tokens seen in the prompt or the output.
  Sampler repetition({.temperature = 0, .repetition_penalty = 2.0f}, kPrompt, 0, 0, {});
  EXPECT_EQ(Choose(repetition, std::vector<float>{0, 2.9f, 5, 5}), 1);  // 2 and 3 fall to 2.5.
  EXPECT_EQ(Choose(repetition, std::vector<float>{2, 2.9f, 0, 0}), 0);  // Now 1 falls to 1.45.
  Sampler negative({.temperature = 0, .repetition_penalty = 2.0f}, kPrompt, 0, 0, {});
  EXPECT_EQ(Choose(negative, std::vector<float>{-1.5f, -9, -1, -9}), 0);  // 2 falls to -2.

  // Frequency counts the output alone, presence counts once.
  Sampler frequency({.temperature = 0, .frequency_penalty = 1.0f}, kPrompt, 0, 0, {});
  const std::vector<float> logits = {0, 0, 2.5f, 1};
  EXPECT_EQ(Choose(frequency, logits), 2);
  EXPECT_EQ(Choose(frequency, logits), 2);
  EXPECT_EQ(Choose(frequency, logits), 3);  // 2.5 - 2 < 1
  Sampler presence({.temperature = 0, .presence_penalty = 1.0f}, kPrompt, 0, 0, {});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Choose(presence, logits), 2);  // 1.5 > 1 however often.
}

TEST(Sampler, BiasComesBeforePenalties) {
  Sampler biased({.temperature = 0, .repetition_penalty = 2.0f, .logit_bias = {{2, 10.0f}}}, kPrompt, 0, 0, {});
  // (-1 + 10) / 2 = 4.5 beats 4; -1 * 2 + 10 = 8 would, too, but (-1 + 10) / 2 must not beat 5.
  EXPECT_EQ(Choose(biased, std::vector<float>{4, 0, -1, 0}), 2);
  Sampler again({.temperature = 0, .repetition_penalty = 2.0f, .logit_bias = {{2, 10.0f}}}, kPrompt, 0, 0, {});
  EXPECT_EQ(Choose(again, std::vector<float>{5, 0, -1, 0}), 0);
}

TEST(Sampler, EndTokensAreMaskedUntilMinTokens) {
  Sampler sampler({.temperature = 0}, kPrompt, 0, 2, {1});
  const std::vector<float> logits = {0, 9, 1};
  EXPECT_EQ(Choose(sampler, logits), 2);
  EXPECT_EQ(Choose(sampler, logits), 2);
  EXPECT_EQ(Choose(sampler, logits), 1);
}

TEST(Sampler, TheSameSeedDrawsTheSameAndSamplesDiffer) {
  std::mt19937 random(3);
  std::vector<std::vector<float>> steps(50, std::vector<float>(100));
  for (auto& logits : steps) {
    for (float& l : logits) l = static_cast<float>(random() % 1000) / 500.0f;
  }
  const auto run = [&](uint64_t seed, int32_t sample) {
    Sampler sampler({.seed = seed}, kPrompt, sample, 0, {});
    std::vector<TokenId> ids;
    for (const auto& logits : steps) ids.push_back(Choose(sampler, logits));
    return ids;
  };
  EXPECT_EQ(run(7, 0), run(7, 0));
  EXPECT_NE(run(7, 0), run(8, 0));
  EXPECT_NE(run(7, 0), run(7, 1));
}

double Unit(uint64_t draw) { return std::ldexp(static_cast<double>(draw), -kDrawBits); }

TEST(UniformDraw, IsUniformAndUncorrelatedOverNeighbours) {
  constexpr int kDraws = 100000;
  double sum = 0, product = 0, previous = Unit(UniformDraw(1, 0, 0));
  for (int i = 1; i <= kDraws; ++i) {
    const double u = Unit(UniformDraw(static_cast<uint64_t>(i % 7), i % 3, i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    product += (u - 0.5) * (previous - 0.5);
    previous = u;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(product / kDraws, 0.0, 5.0 / 12 / std::sqrt(double{kDraws}));
}

// Of a greedy row with n_top likeliest tokens; the token is the likeliest once `masked` is out.
Outcome Logprobs(const std::vector<float>& logits, std::vector<TokenId> masked, int32_t n_top) {
  SampleBatch batch;
  Sampler({.temperature = 0}, kPrompt, 0, 1, std::move(masked)).AddRow(0, n_top, batch);
  return Run(batch, logits);
}

TEST(Logprobs, AreTheLogSoftmaxOfTheRawLogits) {
  const std::vector<float> logits = LogitsOf({0.1, 0.6, 0.1, 0.2});
  const Outcome outcome = Logprobs(logits, {1, 3}, 3);
  EXPECT_EQ(outcome.tokens.front(), 0);
  EXPECT_NEAR(outcome.logprobs.front(), std::log(0.1), 1e-6);
  EXPECT_THAT(outcome.top, ElementsAre(1, 3, 0));
  EXPECT_NEAR(outcome.top_logprobs[1], std::log(0.2), 1e-6);
}

TEST(Logprobs, StayFiniteForLargeLogits) {
  const std::vector<float> logits = {3e4f, 3e4f, -3e4f};
  EXPECT_NEAR(Logprobs(logits, {0}, 0).logprobs.front(), std::log(0.5), 1e-6);
}

}  // namespace
}  // namespace lukv
