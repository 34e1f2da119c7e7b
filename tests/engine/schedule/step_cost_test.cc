#include "engine/schedule/step_cost.h"

#include <gtest/gtest.h>

#include <random>

namespace lukv {
namespace {

Work Random(std::mt19937& random) {
  return {.kind = Work::Kind::kContext, .rows = 32.0 * (1 + random() % 16), .entries = 1000.0 * (random() % 2000)};
}

absl::Duration True(const Work& work, double speed) {
  return speed * (absl::Microseconds(300) + work.rows * absl::Microseconds(20) + work.entries * absl::Nanoseconds(5));
}

double Error(const StepCost& cost, std::mt19937& random, double speed) {
  double worst = 0;
  for (int i = 0; i < 100; ++i) {
    const Work work = Random(random);
    const double ratio = absl::FDivDuration(cost.Expect(work), True(work, speed));
    worst = std::max(worst, std::abs(ratio - 1));
  }
  return worst;
}

TEST(StepCost, KnowsNothingAtFirst) {
  const StepCost cost;
  EXPECT_FALSE(cost.knows(Work::Kind::kContext));
  EXPECT_EQ(cost.Expect({.kind = Work::Kind::kContext, .rows = 100}), absl::ZeroDuration());
}

TEST(StepCost, LearnsAndFollows) {
  std::mt19937 random(1);
  StepCost cost;
  for (int i = 0; i < 30; ++i) {
    const Work work = Random(random);
    cost.Observe(work, True(work, 1));
  }
  EXPECT_TRUE(cost.knows(Work::Kind::kContext));
  EXPECT_FALSE(cost.knows(Work::Kind::kQuestion));
  EXPECT_LT(Error(cost, random, 1), 0.05);
  // The machine becomes slower.
  for (int i = 0; i < 1000; ++i) {
    const Work work = Random(random);
    cost.Observe(work, True(work, 2));
  }
  EXPECT_LT(Error(cost, random, 2), 0.05);
}

TEST(StepCost, NoiseAndOutliersDoNotThrowItOff) {
  std::mt19937 random(2);
  std::uniform_real_distribution<double> noise(0.8, 1.2);
  StepCost cost;
  for (int i = 0; i < 2000; ++i) {
    const Work work = Random(random);
    cost.Observe(work, True(work, random() % 50 == 0 ? 100 : noise(random)));
  }
  // Every 50th takes a hundred times as long; the mean is a third above the rest where those count as four.
  EXPECT_LT(Error(cost, random, 1), 0.35);
}

TEST(StepCost, StaysSaneWhenAllWorkIsAlike) {
  StepCost cost;
  const Work same = {.kind = Work::Kind::kDecode, .rows = 8, .entries = 8000};
  for (int i = 0; i < 100000; ++i) cost.Observe(same, absl::Milliseconds(i % 2 == 0 ? 9 : 11));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(cost.Expect(same)), 10, 0.5);
  const Work other = {.kind = Work::Kind::kDecode, .rows = 16, .entries = 100000};
  EXPECT_LT(cost.Expect(other), absl::Seconds(1));
  EXPECT_GE(cost.Expect({.kind = Work::Kind::kDecode}), absl::ZeroDuration());
}

}  // namespace
}  // namespace lukv
