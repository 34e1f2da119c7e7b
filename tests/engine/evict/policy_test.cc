#include "engine/evict/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace lukv {
namespace {

using testing::HasSubstr;

Policy Parsed(const std::string& name) {
  const absl::StatusOr<Policy> policy = ParsePolicy(name);
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *policy : Policy();
}

TEST(Policy, ReadsTheNamesOfTheDocumentation) {
  EXPECT_TRUE(Parsed("full").full);
  const Policy lukv = Parsed("lukv+expected_attention@0.8");
  EXPECT_FALSE(lukv.full);
  EXPECT_EQ(lukv.allocator, Allocator::kLuKv);
  EXPECT_EQ(lukv.scorer.scorer, Scorer::kExpectedAttention);
  EXPECT_EQ(lukv.ratio, 0.8);
  EXPECT_EQ(lukv.sink, 4);
  EXPECT_EQ(lukv.window, 1);
  EXPECT_EQ(lukv.scorer.epsilon, 0.02f);
  EXPECT_EQ(Parsed("uniform+snapkv@0.5").window, 32);  // As published for SnapKV.
  EXPECT_EQ(Parsed("pyramidkv+snapkv@0.8").allocator, Allocator::kPyramidKv);
  EXPECT_EQ(Parsed("adakv+keydiff@0.8").allocator, Allocator::kAdaKv);
}

TEST(Policy, ReadsOptionsAndBudgets) {
  const Policy stock = Parsed("uniform+snapkv@0.5:sink=0,window=64,queries=64,kernel=5,pool=average,floors=1");
  EXPECT_EQ(stock.scorer.queries, 64);
  EXPECT_EQ(stock.scorer.kernel, 5);
  EXPECT_EQ(stock.scorer.pooling, Pooling::kAverage);
  EXPECT_TRUE(stock.floors);
  const Policy tokens = Parsed("adakv+keydiff@512tokens:alpha=0.3");
  EXPECT_EQ(tokens.budget_kind, BudgetKind::kTokens);
  EXPECT_EQ(tokens.amount, 512);
  EXPECT_EQ(tokens.alpha, 0.3f);
  EXPECT_EQ(Parsed("uniform+random@8388608bytes:seed=18446744073709551615").scorer.seed, UINT64_MAX);
}

// Equal policies have one name: options at their defaults and their order do not show.
TEST(Policy, PrintsOneNamePerPolicy) {
  EXPECT_EQ(PolicyName(Policy()), "full");
  EXPECT_EQ(PolicyName(Parsed("lukv+expected_attention@0.80:window=1,sink=4,epsilon=0.02")),
            "lukv+expected_attention@0.8");
  EXPECT_EQ(PolicyName(Parsed("uniform+snapkv@0.5:window=64,sink=0")), "uniform+snapkv@0.5:sink=0,window=64");
  EXPECT_EQ(PolicyName(Parsed("pyramidkv+knorm@100tokens:beta=7")), "pyramidkv+knorm@100tokens:beta=7");
  EXPECT_EQ(ScorerLabel(DefaultPolicy(Scorer::kSnapKv).scorer, 4, 32), "snapkv");
  EXPECT_EQ(ScorerLabel(DefaultPolicy(Scorer::kSnapKv).scorer, 4, 64), "snapkv:window=64");
}

TEST(Policy, SaysWhatIsWrongAndWhatIsAllowed) {
  const struct {
    const char* name;
    const char* says;
  } kCases[] = {
      {"", "ALLOCATOR+SCORER@RATIO"},
      {"lukv", "ALLOCATOR+SCORER@RATIO"},
      {"lukv@0.8", "ALLOCATOR+SCORER@RATIO"},
      {"lukv+snapkv", "ALLOCATOR+SCORER@RATIO"},
      {"h2o+snapkv@0.8", "uniform, pyramidkv, adakv, lukv"},
      {"lukv+tova@0.8", "expected_attention, snapkv, keydiff"},
      {"lukv+snapkv@", "a ratio like 0.8"},
      {"lukv+snapkv@1", "less than 1"},
      {"lukv+snapkv@-0.1", "less than 1"},
      {"lukv+snapkv@nan", "less than 1"},
      {"lukv+snapkv@0.8 ", "a ratio like 0.8"},
      {"lukv+snapkv@0tokens", "1 or more"},
      {"lukv+snapkv@99999999999999999999tokens", "like 512tokens"},
      {"lukv+snapkv@0.8:", "NAME=VALUE"},
      {"lukv+snapkv@0.8:sink", "NAME=VALUE"},
      {"lukv+snapkv@0.8:sink=-1", "0 to"},
      {"lukv+snapkv@0.8:sink=4,sink=5", "each option once"},
      {"lukv+snapkv@0.8:epsilon=0.1", "epsilon, future (expected_attention)"},
      {"lukv+snapkv@0.8:alpha=0.1", "alpha (adakv)"},
      {"lukv+snapkv@0.8:kernel=4", "odd"},
      {"lukv+snapkv@0.8:pool=min", "max, average"},
      {"lukv+snapkv@0.8:floors=2", "0 or 1"},
      {"lukv+expected_attention@0.8:epsilon=inf", "0 or more"},
      {"adakv+snapkv@0.8:alpha=1.5", "0 to 1"},
      {"pyramidkv+snapkv@0.8:beta=0", "1 to"},
  };
  for (const auto& c : kCases) {
    const absl::StatusOr<Policy> policy = ParsePolicy(c.name);
    ASSERT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument) << c.name;
    EXPECT_THAT(std::string(policy.status().message()), HasSubstr(c.says)) << c.name;
  }
}

TEST(Policy, NamesReadBackAsTheSamePolicy) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 5000; ++i) {
    Policy policy = DefaultPolicy(static_cast<Scorer>(random() % 6));
    policy.allocator = static_cast<Allocator>(random() % 4);
    policy.budget_kind = static_cast<BudgetKind>(random() % 3);
    if (policy.budget_kind == BudgetKind::kRatio) {
      policy.ratio = std::uniform_real_distribution<double>(0, 1)(random);
    } else {
      policy.amount = 1 + static_cast<int64_t>(random() % 1'000'000'000'000);
    }
    if (random() % 2) policy.sink = static_cast<int32_t>(random() % 100);
    if (random() % 2) policy.window = static_cast<int32_t>(random() % 100);
    policy.floors = random() % 2;
    if (policy.scorer.scorer == Scorer::kExpectedAttention) {
      policy.scorer.epsilon = std::uniform_real_distribution<float>(0, 1)(random);
      policy.scorer.future = 1 + static_cast<int32_t>(random() % 1000);
    }
    if (policy.scorer.scorer == Scorer::kSnapKv) policy.scorer.kernel = 1 + 2 * static_cast<int32_t>(random() % 20);
    if (policy.scorer.scorer == Scorer::kRandom) policy.scorer.seed = random();
    if (policy.allocator == Allocator::kAdaKv) policy.alpha = std::uniform_real_distribution<float>(0, 1)(random);
    if (policy.allocator == Allocator::kPyramidKv) policy.beta = 1 + static_cast<int32_t>(random() % 50);
    const std::string name = PolicyName(policy);
    const absl::StatusOr<Policy> back = ParsePolicy(name);
    ASSERT_TRUE(back.ok()) << name << ": " << back.status();
    ASSERT_EQ(*back, policy) << name;
    ASSERT_EQ(PolicyName(*back), name);
  }
}

// Whatever comes in, the answer is a policy or a reason, and a policy's name is stable.
TEST(Policy, SurvivesNoise) {
  std::mt19937 random(11);
  const std::string alphabet = "lukv+expected_attention@0.8:sink=4,window=32 snapkvadakv\0\xff-e";
  for (int i = 0; i < 20000; ++i) {
    std::string name = i % 2 ? "lukv+snapkv@0.8:sink=4,kernel=7" : "";
    for (int edits = 0; edits < 6; ++edits) {
      const char c = alphabet[random() % alphabet.size()];
      const size_t at = name.empty() ? 0 : random() % name.size();
      if (random() % 3 == 0 && !name.empty()) {
        name.erase(at, 1);
      } else {
        name.insert(at, 1, c);
      }
    }
    if (const absl::StatusOr<Policy> policy = ParsePolicy(name); policy.ok()) {
      ASSERT_EQ(*ParsePolicy(PolicyName(*policy)), *policy) << name;
    }
  }
}

}  // namespace
}  // namespace lukv
