#include "engine/evict/eviction_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace lukv {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr KvGeometry kGeometry{.n_layers = 4, .n_kv_heads = 3, .page_tokens = 64};
constexpr int64_t kEntryBytes = 256;

BudgetCurve Curve(const KvGeometry& geometry, std::vector<float> ratios) {
  absl::StatusOr<BudgetCurve> curve =
      BudgetCurve::Make(CurveInfo(), geometry.n_layers, geometry.n_kv_heads, std::move(ratios));
  EXPECT_TRUE(curve.ok()) << curve.status();
  return *std::move(curve);
}

EvictionPlan Plan(const std::string& policy, int32_t n_tokens, const BudgetCurve* curve = nullptr,
                  const KvGeometry& geometry = kGeometry) {
  absl::StatusOr<EvictionPlan> plan = EvictionPlan::Make(*ParsePolicy(policy), n_tokens, geometry, kEntryBytes, curve);
  EXPECT_TRUE(plan.ok()) << policy << ": " << plan.status();
  return *std::move(plan);
}

TEST(EvictionPlan, UniformKeepsTheSameEverywhere) {
  EXPECT_THAT(Plan("uniform+keydiff@0.8", 1000).budgets(), Each(199));  // int(1000 * (1 - 0.8)), as kvpress has it.
  EXPECT_THAT(Plan("uniform+keydiff@0.75", 1000).budgets(), Each(250));
  EXPECT_THAT(Plan("uniform+keydiff@0.999", 10).budgets(), Each(1));
  EXPECT_TRUE(Plan("uniform+keydiff@0", 1000).keeps_all());
}

TEST(EvictionPlan, BudgetsOfTokensAndBytesAreKeptToTheEntry) {
  for (int32_t n = 1; n <= 1000; ++n) {
    ASSERT_THAT(Plan("uniform+keydiff@" + std::to_string(n) + "tokens", 1000).budgets(), Each(n));
  }
  EXPECT_TRUE(Plan("uniform+keydiff@5000tokens", 1000).keeps_all());
  // 12 heads of 256 bytes an entry.
  EXPECT_THAT(Plan("uniform+keydiff@307200bytes", 1000).budgets(), Each(100));
  EXPECT_THAT(Plan("uniform+keydiff@307199bytes", 1000).budgets(), Each(99));
  const auto refused =
      EvictionPlan::Make(*ParsePolicy("uniform+keydiff@3000bytes"), 1000, kGeometry, kEntryBytes, nullptr);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("3072"));
}

// Values of kvpress 0.5.5's PyramidKVPress.get_layer_budget (window 64, beta 20, 4 layers).
TEST(EvictionPlan, PyramidFallsLinearly) {
  const auto layers = [](const EvictionPlan& plan) {
    std::vector<int32_t> budgets;
    for (int32_t l = 0; l < 4; ++l) {
      EXPECT_THAT(plan.layer_budgets(l), Each(plan.layer_budgets(l)[0]));
      budgets.push_back(plan.layer_budgets(l)[0]);
    }
    return budgets;
  };
  EXPECT_THAT(layers(Plan("pyramidkv+snapkv@0.5:queries=64", 4000)), ElementsAre(3900, 2633, 1367, 100));
  EXPECT_THAT(layers(Plan("pyramidkv+snapkv@0.3:queries=64", 4000)), ElementsAre(3936, 3179, 2421, 1664));
  // The narrow end would be below the window: uniform.
  EXPECT_THAT(layers(Plan("pyramidkv+snapkv@0.8:queries=64", 4000)), ElementsAre(800, 800, 800, 800));
  EXPECT_THAT(layers(Plan("pyramidkv+keydiff@0.8", 4000)), ElementsAre(1560, 1053, 547, 40));
}

TEST(EvictionPlan, FloorsHoldEveryHead) {
  std::vector<float> ratios(static_cast<size_t>(99 * kGeometry.heads()), 0.999f);
  const BudgetCurve curve = Curve(kGeometry, std::move(ratios));
  EXPECT_THAT(Plan("lukv+keydiff@0.8", 1000, &curve).budgets(), Each(1));
  EXPECT_THAT(Plan("lukv+keydiff@0.8:floors=1,window=10", 1000, &curve).budgets(), Each(14));
  EXPECT_THAT(Plan("lukv+keydiff@0.8:floors=1,window=10", 8, &curve).budgets(), Each(8));
}

TEST(EvictionPlan, AdaKvKnowsOnlyMeanAndSafeguard) {
  const EvictionPlan plan = Plan("adakv+keydiff@0.8", 1000);
  EXPECT_FALSE(plan.known_from_length());
  EXPECT_THAT(plan.budgets(), Each(199));
  EXPECT_EQ(plan.n_safe(), 39);
  EXPECT_EQ(Plan("adakv+keydiff@0.99:alpha=0", 1000).n_safe(), 0);
  EXPECT_EQ(Plan("adakv+keydiff@0.999", 1000).n_safe(), 1);
}

// 10,000 random (T, curve, ratio): a layer's total is the rounded ideal one, no head is further than one entry from its
// ideal, and every budget is in [1, T].
TEST(EvictionPlan, LuKvRoundsByLargestRemainders) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 10000; ++trial) {
    const KvGeometry geometry{.n_layers = 1 + static_cast<int32_t>(random() % 3),
                              .n_kv_heads = 1 + static_cast<int32_t>(random() % 8),
                              .page_tokens = 64};
    const size_t heads = static_cast<size_t>(geometry.heads());
    const int32_t n_tokens = 1 + static_cast<int32_t>(random() % (trial % 2 ? 40 : 9000));
    const int percent = 1 + static_cast<int>(random() % 99);
    std::vector<float> ratios(99 * heads);
    for (size_t h = 0; h < heads; ++h) {
      float& ratio = ratios[static_cast<size_t>(percent - 1) * heads + h];
      ratio = std::uniform_real_distribution<float>(0, 1)(random);
      if (random() % 8 == 0) ratio = static_cast<float>(random() % 2);
    }
    const BudgetCurve curve = Curve(geometry, ratios);
    const EvictionPlan plan = Plan("lukv+keydiff@" + std::to_string(percent / 100.0), n_tokens, &curve, geometry);
    for (int32_t layer = 0; layer < geometry.n_layers; ++layer) {
      const std::span<const float> layer_ratios = curve.Layer(percent / 100.0, layer);
      const std::span<const int32_t> budgets = plan.layer_budgets(layer);
      double ideal_sum = 0;
      int64_t unclamped = 0;
      bool clamped = false;
      for (size_t h = 0; h < budgets.size(); ++h) {
        const double ideal = (1.0 - layer_ratios[h]) * n_tokens;
        ideal_sum += ideal;
        ASSERT_GE(budgets[h], 1);
        ASSERT_LE(budgets[h], n_tokens);
        ASSERT_GT(budgets[h], ideal - 1.01) << "head " << h;
        ASSERT_LT(budgets[h], std::max(ideal + 1.01, 1.01)) << "head " << h;
        clamped = clamped || ideal < 1;
        unclamped += budgets[h];
      }
      // Heads whose ideal is less than one entry are lifted to one.
      const double total = std::max(ideal_sum, static_cast<double>(budgets.size()));
      ASSERT_GE(unclamped, static_cast<int64_t>(std::floor(total - 0.51)));
      if (!clamped) {
        ASSERT_NEAR(static_cast<double>(unclamped), ideal_sum, 0.5 + 3e-7 * ideal_sum);  // f32
      }
    }
  }
}

TEST(EvictionPlan, LuKvReadsTheCurveAtTheWholePercent) {
  std::vector<float> ratios;
  for (int percent = 1; percent <= 99; ++percent) {
    ratios.insert(ratios.end(), static_cast<size_t>(kGeometry.heads()), static_cast<float>(percent) / 100);
  }
  const BudgetCurve curve = Curve(kGeometry, std::move(ratios));
  EXPECT_THAT(Plan("lukv+keydiff@0.8", 1000, &curve).budgets(), Each(200));
  EXPECT_THAT(Plan("lukv+keydiff@0.804", 1000, &curve).budgets(), Each(200));
  EXPECT_THAT(Plan("lukv+keydiff@0.806", 1000, &curve).budgets(), Each(190));
  EXPECT_THAT(Plan("lukv+keydiff@0.001", 1000, &curve).budgets(), Each(990));
  EXPECT_THAT(Plan("lukv+keydiff@0.9999", 1000, &curve).budgets(), Each(10));
  EXPECT_TRUE(Plan("lukv+keydiff@0", 1000, &curve).keeps_all());
  // A budget of tokens is a limit: the percent that keeps no more.
  EXPECT_THAT(Plan("lukv+keydiff@200tokens", 1000, &curve).budgets(), Each(200));
  EXPECT_THAT(Plan("lukv+keydiff@205tokens", 1000, &curve).budgets(), Each(200));
  const auto refused = EvictionPlan::Make(*ParsePolicy("lukv+keydiff@5tokens"), 1000, kGeometry, kEntryBytes, &curve);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("curves end at 1 %"));
}

// Pages from the length: exact where budgets are known; for AdaKV no way of sharing out a layer's total needs more.
TEST(EvictionPlan, PagesAreCountedOrBounded) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 2000; ++trial) {
    const KvGeometry geometry{.n_layers = 1 + static_cast<int32_t>(random() % 3),
                              .n_kv_heads = 1 + static_cast<int32_t>(random() % 5),
                              .page_tokens = 1 + static_cast<int32_t>(random() % 9)};
    const int32_t n_tokens = 1 + static_cast<int32_t>(random() % 60);
    const int32_t more = static_cast<int32_t>(random() % 20);
    const std::string ratio = std::to_string(std::uniform_real_distribution<double>(0, 0.999)(random));
    const EvictionPlan known = Plan("pyramidkv+keydiff@" + ratio, n_tokens, nullptr, geometry);
    uint32_t pages = 0;
    for (const int32_t budget : known.budgets()) pages += geometry.PagesFor(budget + more);
    ASSERT_EQ(known.PagesFor(more), pages);

    const EvictionPlan adaptive = Plan("adakv+keydiff@" + ratio, n_tokens, nullptr, geometry);
    uint32_t used = 0;
    for (int32_t layer = 0; layer < geometry.n_layers; ++layer) {
      int64_t left = int64_t{adaptive.layer_budgets(layer)[0]} * geometry.n_kv_heads;
      std::vector<int32_t> kept(static_cast<size_t>(geometry.n_kv_heads), adaptive.n_safe());
      left -= int64_t{adaptive.n_safe()} * geometry.n_kv_heads;
      while (left > 0) {
        int32_t& head = kept[random() % kept.size()];
        const int32_t n =
            std::min<int32_t>(static_cast<int32_t>(std::min<int64_t>(left, 1 + random() % 7)), n_tokens - head);
        head += n;
        left -= n;
      }
      for (const int32_t k : kept) used += geometry.PagesFor(k + more);
    }
    ASSERT_LE(used, adaptive.PagesFor(more)) << "T " << n_tokens << " ratio " << ratio << " more " << more;
  }
}

}  // namespace
}  // namespace lukv
