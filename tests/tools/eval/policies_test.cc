#include "tools/eval/policies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Names(const std::vector<std::string>& names, const std::vector<double>& ratios) {
  std::vector<std::string> expanded;
  const auto policies = ExpandPolicies(names, ratios);
  EXPECT_TRUE(policies.ok()) << policies.status();
  if (policies.ok()) {
    for (const Policy& policy : *policies) expanded.push_back(PolicyName(policy));
  }
  return expanded;
}

TEST(SplitPolicyNames, CommasInsideOptionsAreNoCuts) {
  EXPECT_THAT(SplitPolicyNames("full"), ElementsAre("full"));
  EXPECT_THAT(SplitPolicyNames("full,lukv+keydiff@0.8:sink=4,window=8,adakv+snapkv:pool=average,queries=64,knorm"),
              ElementsAre("full", "lukv+keydiff@0.8:sink=4,window=8", "adakv+snapkv:pool=average,queries=64", "knorm"));
  EXPECT_THAT(SplitPolicyNames("sink=4"), ElementsAre("sink=4"));
  EXPECT_THAT(SplitPolicyNames("a,,b,"), ElementsAre("a", "", "b", ""));
}

TEST(ExpandPolicies, NamesWithoutARatioStandForEach) {
  EXPECT_THAT(Names({"full", "lukv+keydiff", "uniform+snapkv@0.3"}, {0.5, 0.8}),
              ElementsAre("full", "lukv+keydiff@0.5", "lukv+keydiff@0.8", "uniform+snapkv@0.3"));
  EXPECT_THAT(Names({"uniform+knorm:sink=8", "uniform+knorm@64tokens"}, {0.25}),
              ElementsAre("full", "uniform+knorm@0.25:sink=8", "uniform+knorm@64tokens"));
}

TEST(ExpandPolicies, FullComesFirstAndEachOnce) {
  EXPECT_THAT(Names({"uniform+knorm", "full", "uniform+knorm@0.5", "full"}, {0.5, 0.5}),
              ElementsAre("full", "uniform+knorm@0.5"));
}

TEST(ExpandPolicies, RefusesWhatIsNoPolicy) {
  const std::vector<double> ratios = {0.5};
  const auto error = [&](const std::string& name, const std::vector<double>& of) {
    return std::string(ExpandPolicies({&name, 1}, of).status().message());
  };
  EXPECT_THAT(error("lukv", ratios), HasSubstr("policy"));
  EXPECT_THAT(error("best+keydiff", ratios), HasSubstr("best"));
  EXPECT_THAT(error("", ratios), HasSubstr("policy"));
  EXPECT_THAT(error("lukv+keydiff", {1.0}), HasSubstr("policy"));
}

TEST(WithCurves, LuKvNeedsOne) {
  CurveSet curves;
  const Policy keydiff = DefaultPolicy(Scorer::kKeyDiff);
  curves.Add(*BudgetCurve::Make(
      {.model_fingerprint = "x", .scorer = keydiff.scorer, .sink = keydiff.sink, .window = keydiff.window}, 1, 1,
      std::vector<float>(99, 0.5f)));
  const auto with = [&](std::vector<std::string> names) { return WithCurves(*ExpandPolicies(names, {}), curves); };
  const auto found = with({"lukv+keydiff@0.8", "uniform+snapkv@0.8"});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)[0].name, "full");
  EXPECT_EQ((*found)[0].curve, nullptr);
  EXPECT_NE((*found)[1].curve, nullptr);
  EXPECT_EQ((*found)[2].curve, nullptr);
  EXPECT_THAT(with({"lukv+snapkv@0.8"}).status().message(),
              HasSubstr("lukv+snapkv@0.8: the model has no budget curve for snapkv; it has keydiff"));
  EXPECT_FALSE(with({"lukv+keydiff@0.8:sink=9"}).ok());
}

}  // namespace
}  // namespace lukv
