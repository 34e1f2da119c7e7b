// Scores and kept sets against kvpress (float32) on the demo model's own keys, values and queries.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "engine/evict/budget_curve.h"
#include "engine/evict/eviction_plan.h"
#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

constexpr size_t kTokens = 1000;

// What both sides call a scorer.
struct NamedScorer {
  const char* golden;
  const char* policy;  // After ALLOCATOR+.
};
constexpr NamedScorer kScorers[] = {
    {"snapkv_64_average", "snapkv@0.8:sink=0,window=0,queries=64,kernel=5,pool=average"},
    {"snapkv_32_max", "snapkv@0.8"},
    {"keydiff", "keydiff@0.8"},
    {"expected_attention_0", "expected_attention@0.8:epsilon=0"},
    {"expected_attention_0.02", "expected_attention@0.8"},
    {"knorm", "knorm@0.8"},
};

Policy PolicyOf(const std::string& allocator, const std::string& golden) {
  for (const NamedScorer& scorer : kScorers) {
    if (golden == scorer.golden) return *ParsePolicy(allocator + "+" + scorer.policy);
  }
  std::abort();
}

std::vector<double> Ranks(std::span<const float> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && values[order[end]] == values[order[i]]) ++end;
    for (size_t j = i; j < end; ++j) ranks[order[j]] = static_cast<double>(i + end - 1) / 2;
    i = end;
  }
  return ranks;
}

double Spearman(std::span<const float> a, std::span<const float> b) {
  const std::vector<double> x = Ranks(a), y = Ranks(b);
  const double mean = static_cast<double>(a.size() - 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xy / std::sqrt(xx * yy);
}

// The k best, ties to the lower entry.
std::vector<size_t> Top(std::span<const float> scores, size_t k) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

class Kvpress : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    test_ = new TestRunner(DemoModelPath(), {.n_slots = 2, .max_context = kTokens});
    ids_ = ReadGoldenJson("evict/meta.json")["ids"].get<std::vector<TokenId>>();
  }
  static void TearDownTestSuite() { delete std::exchange(test_, nullptr); }

  ModelRunner& runner() { return test_->runner(); }

  static TestRunner* test_;
  static std::vector<TokenId> ids_;
};
TestRunner* Kvpress::test_ = nullptr;
std::vector<TokenId> Kvpress::ids_;

TEST_F(Kvpress, ScoresRankTheSame) {
  ASSERT_EQ(ids_.size(), kTokens);
  const auto layers = ReadGoldenJson("evict/meta.json")["score_layers"].get<std::vector<int32_t>>();
  PrefillPrompt prompt{.context = ids_, .targets = {{.slot = Slot{0}}}};
  std::vector<std::vector<float>> golden;
  for (const NamedScorer& scorer : kScorers) {
    prompt.observed_scorers.push_back(PolicyOf("uniform", scorer.golden).scorer);
    golden.push_back(ReadGoldenF32(std::string("evict/scores.") + scorer.golden + ".f32.bin"));
  }
  const size_t heads = static_cast<size_t>(runner().config().n_kv_heads);
  int compared = 0;
  const ScoreSink sink = [&](size_t, int32_t layer, const ScorerSettings& settings, std::span<const float> scores) {
    const auto stored = std::find(layers.begin(), layers.end(), layer);
    if (stored == layers.end()) return absl::OkStatus();
    const auto index = std::find(prompt.observed_scorers.begin(), prompt.observed_scorers.end(), settings);
    const size_t scorer = static_cast<size_t>(index - prompt.observed_scorers.begin());
    size_t different = 0;
    for (size_t head = 0; head < heads; ++head) {
      const size_t at = (static_cast<size_t>(stored - layers.begin()) * heads + head) * kTokens;
      const std::span<const float> expected = std::span(golden[scorer]).subspan(at, kTokens);
      const std::span<const float> ours = scores.subspan(head * kTokens, kTokens);
      EXPECT_GE(Spearman(ours, expected), 0.9999) << kScorers[scorer].golden << " layer " << layer << " head " << head;
      for (const size_t k : {50u, 200u, 500u}) {
        const std::vector<size_t> a = Top(ours, k), b = Top(expected, k);
        std::vector<size_t> missed;
        std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(missed));
        different += missed.size();
      }
      ++compared;
    }
    // Near-ties: at most 0.1 % of the positions of each choice.
    EXPECT_LE(different, heads * 3 * kTokens / 1000) << kScorers[scorer].golden << " layer " << layer;
    return absl::OkStatus();
  };
  test_->Open(prompt.targets[0], kTokens, 0, 0);
  ASSERT_TRUE(runner().Prefill({&prompt, 1}, {.scores = sink}).ok());
  EXPECT_EQ(compared, static_cast<int>(std::size(kScorers) * layers.size() * heads));
  runner().table().Release(Slot{0});
}

class KeptSets : public Kvpress, public testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(KeptSets, AreTheSame) {
  const auto [allocator, scorer] = GetParam();
  const ModelConfig& config = runner().config();
  Policy policy = PolicyOf(allocator, scorer);
  if (policy.allocator == Allocator::kAdaKv) policy.sink = policy.window = 0;  // kvpress's AdaKV lifts nothing itself.
  std::vector<float> ratios;
  const std::vector<float> row = ReadGoldenF32("evict/curve_row.f32.bin");
  for (int32_t i = 0; i < BudgetCurve::kRatios; ++i) ratios.insert(ratios.end(), row.begin(), row.end());
  const BudgetCurve curve = *BudgetCurve::Make(CurveInfo(), config.n_layers, config.n_kv_heads, std::move(ratios));
  const EvictionPlan plan = *EvictionPlan::Make(policy, kTokens, runner().table().geometry(),
                                                ModelRunner::PageBytes(config, runner().options().kv_dtype, 1), &curve);
  const std::vector<PrefillTarget> targets = {{.slot = Slot{0}, .plan = &plan}, {.slot = Slot{1}}};
  for (const PrefillTarget& target : targets) test_->Open(target, kTokens, 0, 0);
  test_->Prefill({.context = ids_, .targets = targets});

  const std::vector<int32_t> bits = ReadGoldenI32(std::string("evict/kept.") + allocator + "." + scorer + ".i32.bin");
  constexpr size_t kWords = (kTokens + 31) / 32;
  size_t different = 0;
  size_t kept_by_kvpress = 0;
  size_t kept_by_us = 0;
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    for (int32_t head = 0; head < config.n_kv_heads; ++head) {
      std::vector<bool> ours(kTokens);
      for (const size_t position : test_->KeptPositions(Slot{0}, Slot{1}, layer, head)) ours[position] = true;
      const size_t at = static_cast<size_t>(layer * config.n_kv_heads + head) * kWords;
      for (size_t t = 0; t < kTokens; ++t) {
        const bool theirs = (static_cast<uint32_t>(bits[at + t / 32]) >> (t % 32)) & 1;
        kept_by_kvpress += theirs;
        kept_by_us += ours[t];
        different += theirs != ours[t];
      }
    }
  }
  EXPECT_EQ(kept_by_us, kept_by_kvpress);
  const size_t positions = kTokens * static_cast<size_t>(config.n_layers * config.n_kv_heads);
  EXPECT_LE(different, positions / 1000) << "of " << positions;
  RecordProperty("different_positions", static_cast<int>(different));
  for (const PrefillTarget& target : targets) runner().table().Release(target.slot);
}

INSTANTIATE_TEST_SUITE_P(All, KeptSets,
                         testing::Values(std::pair{"adakv", "snapkv_64_average"}, std::pair{"adakv", "keydiff"},
                                         std::pair{"adakv", "expected_attention_0.02"},
                                         std::pair{"lukv", "snapkv_32_max"}, std::pair{"lukv", "keydiff"},
                                         std::pair{"lukv", "expected_attention_0.02"}),
                         [](const auto& param_info) {
                           std::string name = std::string(param_info.param.first) + "_" + param_info.param.second;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace lukv
