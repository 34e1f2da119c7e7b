#include "tools/load/lengths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace lukv {
namespace {

constexpr int kDraws = 20000;

std::vector<double> Draws(const std::string& text, uint64_t seed = 7) {
  const absl::StatusOr<Lengths> lengths = Lengths::Parse(text);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  Random random(seed);
  std::vector<double> draws;
  for (int i = 0; i < kDraws; ++i) draws.push_back(lengths->Draw(random));
  return draws;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double Deviation(const std::vector<double>& values) {
  const double mean = Mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

TEST(Lengths, ANumberIsAlwaysTheSame) { EXPECT_THAT(Draws("1000"), testing::Each(1000)); }

TEST(Lengths, UniformReachesBothEndsAndNothingElse) {
  const std::vector<double> draws = Draws("uniform:10:20");
  EXPECT_EQ(*std::min_element(draws.begin(), draws.end()), 10);
  EXPECT_EQ(*std::max_element(draws.begin(), draws.end()), 20);
  EXPECT_NEAR(Mean(draws), 15, 0.1);
  EXPECT_NEAR(Deviation(draws), std::sqrt(120.0 / 12), 0.1);
}

TEST(Lengths, LogNormalHasTheMeanAndTheSigmaOfItsLogarithms) {
  const std::vector<double> draws = Draws("lognormal:1000:0.5");
  EXPECT_NEAR(Mean(draws), 1000, 15);
  std::vector<double> logs;
  for (const double draw : draws) logs.push_back(std::log(draw));
  EXPECT_NEAR(Deviation(logs), 0.5, 0.01);
  EXPECT_THAT(Draws("lognormal:1:3"), testing::Each(testing::Ge(1)));
}

TEST(Lengths, TheSameSeedDrawsTheSame) {
  EXPECT_EQ(Draws("lognormal:100:1", 3), Draws("lognormal:100:1", 3));
  EXPECT_NE(Draws("lognormal:100:1", 3), Draws("lognormal:100:1", 4));
}

TEST(Lengths, RefusesWhatIsNoDistribution) {
  for (const char* text :
       {"", "0", "-1", "1.5", "x", "uniform", "uniform:1", "uniform:5:4", "uniform:0:4", "uniform:1:2:3",
        "lognormal:10", "lognormal:0:1", "lognormal:10:-1", "normal:1:2", "1:2:3", "99999999999"}) {
    const absl::StatusOr<Lengths> lengths = Lengths::Parse(text);
    EXPECT_EQ(lengths.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(Exponential, HasItsMeanAndNoMemory) {
  Random random(5);
  std::vector<double> draws;
  for (int i = 0; i < kDraws; ++i) draws.push_back(Exponential(random, 0.25));
  EXPECT_NEAR(Mean(draws), 0.25, 0.005);
  EXPECT_NEAR(Deviation(draws), 0.25, 0.01);
  EXPECT_THAT(draws, testing::Each(testing::Ge(0)));
}

}  // namespace
}  // namespace lukv
