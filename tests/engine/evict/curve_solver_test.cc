#include "engine/evict/curve_solver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace lukv {
namespace {

constexpr int32_t kRatios = 99;

TEST(RankEntries, BestFirstTiesToTheLowerWithoutTheProtected) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> scores = {9, 1, nan, 3, -2, 3, infinity, -infinity, 9};
  EXPECT_EQ(RankEntries(scores, 1, 1), (std::vector<int32_t>{6, 3, 5, 1, 4, 2, 7}));
  EXPECT_EQ(RankEntries(scores, 0, 0), (std::vector<int32_t>{6, 0, 8, 3, 5, 1, 4, 2, 7}));
  EXPECT_EQ(RankEntries(scores, 3, 4), (std::vector<int32_t>{3, 4}));
  EXPECT_TRUE(RankEntries(scores, 5, 5).empty());
  EXPECT_TRUE(RankEntries(scores, 20, 20).empty());
}

TEST(RelaxDecrements, ByHand) {
  std::vector<double> d = {4, 1, 3, 0, 0, 6, 1};
  RelaxDecrements(d);
  // (4) (1 3) (0 0 6), and 2 equals 2: the blocks stay apart or join, the slopes are the same.
  EXPECT_EQ(d, (std::vector<double>{4, 2, 2, 2, 2, 2, 1}));
  std::vector<double> rising = {0, 0, 3};
  RelaxDecrements(rising);
  EXPECT_EQ(rising, (std::vector<double>{1, 1, 1}));
  std::vector<double> falling = {5, 5, 2, 0};
  RelaxDecrements(falling);
  EXPECT_EQ(falling, (std::vector<double>{5, 5, 2, 0}));
  RelaxDecrements({});
}

TEST(EntriesToEvict, RoundsHalfToEven) {
  EXPECT_EQ(EntriesToEvict(80, 90, 4000), 288000);
  EXPECT_EQ(EntriesToEvict(50, 1, 1), 0);                            // 0.5
  EXPECT_EQ(EntriesToEvict(50, 1, 3), 2);                            // 1.5
  EXPECT_EQ(EntriesToEvict(50, 1, 5), 2);                            // 2.5
  EXPECT_EQ(EntriesToEvict(57, 1, 101), 58);                         // 57.57
  EXPECT_EQ(EntriesToEvict(99, 4096 * 128, 1 << 20), 544258255749);  // .12
}

TEST(FloorOfHead, IsAShareOrWhatIsProtected) {
  EXPECT_EQ(FloorOfHead(4000, 5), 40);
  EXPECT_EQ(FloorOfHead(4000, 68), 68);
  EXPECT_EQ(FloorOfHead(150, 0), 2);  // 1.5
  EXPECT_EQ(FloorOfHead(20, 0), 1);
  EXPECT_EQ(FloorOfHead(3, 3), 3);
}

// Loss by budget, 0 .. d.size(), of what the budget leaves out.
std::vector<double> LossOf(std::span<const double> d) {
  std::vector<double> loss(d.size() + 1, 0.0);
  for (size_t b = d.size(); b-- > 0;) loss[b] = loss[b + 1] + d[b];
  return loss;
}

// Spiky, with many equal and zero values, as attention is.
std::vector<double> RandomDecrements(std::mt19937& random, size_t n) {
  std::vector<double> d(n);
  const uint32_t style = random() % 3;
  for (double& value : d) {
    value = style == 0   ? static_cast<double>(random() % 4)
            : style == 1 ? std::exp(-static_cast<double>(random() % 1000) / 100.0)
                         : (random() % 3 == 0 ? static_cast<double>(random() % 1000) / 7.0 : 0.0);
  }
  return d;
}

TEST(RelaxDecrements, IsTheLowerConvexHullOfTheLoss) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 random(seed);
    const size_t n = 1 + random() % 12;
    const std::vector<double> d = RandomDecrements(random, n);
    std::vector<double> relaxed = d;
    RelaxDecrements(relaxed);
    for (size_t i = 1; i < n; ++i) ASSERT_LE(relaxed[i], relaxed[i - 1]) << "seed " << seed;
    const std::vector<double> loss = LossOf(d);
    const std::vector<double> hull = LossOf(relaxed);
    const double near = 1e-12 * (1 + loss[0]);
    ASSERT_NEAR(hull[0], loss[0], near);
    for (size_t b = 0; b <= n; ++b) {
      ASSERT_LE(hull[b], loss[b] + near) << "seed " << seed << ", budget " << b;
      // A point where the slope changes is a corner of the hull, and lies on the loss.
      if (b > 0 && b < n && relaxed[b - 1] > relaxed[b] + near) {
        ASSERT_NEAR(hull[b], loss[b], near) << "seed " << seed;
      }
      // The hull by its definition: the lowest chord over b.
      double lowest = loss[b];
      for (size_t left = 0; left < b; ++left) {
        for (size_t right = b + 1; right <= n; ++right) {
          const double t = static_cast<double>(b - left) / static_cast<double>(right - left);
          lowest = std::min(lowest, (1 - t) * loss[left] + t * loss[right]);
        }
      }
      ASSERT_NEAR(hull[b], lowest, near) << "seed " << seed << ", budget " << b;
    }
  }
}

struct Problem {
  int32_t n_tokens;
  int32_t n_protected;
  int32_t n_heads;
  std::vector<double> decrements;  // [n_heads, n_tokens - n_protected]
  std::vector<double> relaxed;

  size_t ranked() const { return static_cast<size_t>(n_tokens - n_protected); }
};

Problem RandomProblem(std::mt19937& random, int32_t max_heads, int32_t max_tokens) {
  Problem p;
  p.n_tokens = 1 + static_cast<int32_t>(random() % static_cast<uint32_t>(max_tokens));
  p.n_protected = static_cast<int32_t>(random() % static_cast<uint32_t>(std::min(p.n_tokens, 4) + 1));
  p.n_heads = 1 + static_cast<int32_t>(random() % static_cast<uint32_t>(max_heads));
  for (int32_t h = 0; h < p.n_heads; ++h) {
    std::vector<double> d = RandomDecrements(random, p.ranked());
    p.decrements.insert(p.decrements.end(), d.begin(), d.end());
    RelaxDecrements(d);
    p.relaxed.insert(p.relaxed.end(), d.begin(), d.end());
  }
  return p;
}

// Loss of keeping kept[h] entries of each head, the protected ones counted in.
double LossAt(const Problem& p, const std::vector<double>& decrements, std::span<const int32_t> kept) {
  double loss = 0;
  for (size_t h = 0; h < kept.size(); ++h) {
    const auto first = static_cast<size_t>(kept[h] - p.n_protected);
    for (size_t i = first; i < p.ranked(); ++i) loss += decrements[h * p.ranked() + i];
  }
  return loss;
}

// The least loss of evicting exactly `evicted` entries, by exact dynamic programming over the heads, whatever the loss
// looks like.
double OptimumByDynamicProgramming(const Problem& p, const std::vector<double>& decrements, int64_t evicted) {
  const double never = std::numeric_limits<double>::infinity();
  const int32_t floor = FloorOfHead(p.n_tokens, p.n_protected);
  std::vector<double> best(static_cast<size_t>(evicted) + 1, never);
  best[0] = 0;
  for (int32_t h = 0; h < p.n_heads; ++h) {
    const std::span<const double> d(decrements.data() + static_cast<size_t>(h) * p.ranked(), p.ranked());
    const std::vector<double> loss = LossOf(d);
    std::vector<double> next(best.size(), never);
    for (size_t before = 0; before < best.size(); ++before) {
      for (int32_t kept = floor; kept <= p.n_tokens; ++kept) {
        const size_t after = before + static_cast<size_t>(p.n_tokens - kept);
        if (after >= next.size()) continue;
        next[after] = std::min(next[after], best[before] + loss[static_cast<size_t>(kept - p.n_protected)]);
      }
    }
    best = next;
  }
  return best.back();
}

int64_t MostThatMayGo(const Problem& p) {
  return int64_t{p.n_heads} * (p.n_tokens - FloorOfHead(p.n_tokens, p.n_protected));
}

TEST(SolveBudgets, TotalsAreExactBudgetsKeepTheirFloorsAndFallWithTheRatio) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const Problem p = RandomProblem(random, 7, 250);
    const std::vector<int32_t> kept = SolveBudgets(p.n_tokens, p.n_protected, p.n_heads, p.relaxed);
    const auto heads = static_cast<size_t>(p.n_heads);
    ASSERT_EQ(kept.size(), kRatios * heads);
    for (int32_t percent = 1; percent <= kRatios; ++percent) {
      const std::span<const int32_t> row(&kept[static_cast<size_t>(percent - 1) * heads], heads);
      const int64_t total = std::accumulate(row.begin(), row.end(), int64_t{0});
      const int64_t evicted = std::min(EntriesToEvict(percent, p.n_heads, p.n_tokens), MostThatMayGo(p));
      ASSERT_EQ(total, int64_t{p.n_heads} * p.n_tokens - evicted) << "seed " << seed << ", " << percent << " %";
      for (size_t h = 0; h < heads; ++h) {
        ASSERT_GE(row[h], FloorOfHead(p.n_tokens, p.n_protected));
        ASSERT_LE(row[h], p.n_tokens);
        if (percent > 1) {
          ASSERT_LE(row[h], kept[static_cast<size_t>(percent - 2) * heads + h]) << "seed " << seed;
        }
      }
    }
  }
}

TEST(SolveBudgets, EqualsDynamicProgrammingOnTheRelaxedLossAtEveryRatio) {
  for (uint32_t seed = 0; seed < 120; ++seed) {
    std::mt19937 random(seed);
    const Problem p = RandomProblem(random, 4, 24);
    const std::vector<int32_t> kept = SolveBudgets(p.n_tokens, p.n_protected, p.n_heads, p.relaxed);
    const auto heads = static_cast<size_t>(p.n_heads);
    for (int32_t percent = 1; percent <= kRatios; ++percent) {
      const std::span<const int32_t> row(&kept[static_cast<size_t>(percent - 1) * heads], heads);
      const int64_t evicted = std::min(EntriesToEvict(percent, p.n_heads, p.n_tokens), MostThatMayGo(p));
      const double optimum = OptimumByDynamicProgramming(p, p.relaxed, evicted);
      ASSERT_NEAR(LossAt(p, p.relaxed, row), optimum, 1e-9 * (1 + optimum))
          << "seed " << seed << ", " << percent << " %";
    }
  }
}

// Every way to share `total` out over the heads.
void ForEachSplit(const Problem& p, size_t head, int64_t evict, std::vector<int32_t>& kept,
                  const std::function<void(std::span<const int32_t>)>& visit) {
  const int32_t floor = FloorOfHead(p.n_tokens, p.n_protected);
  if (head == kept.size()) {
    if (evict == 0) visit(kept);
    return;
  }
  for (kept[head] = floor; kept[head] <= p.n_tokens; ++kept[head]) {
    const int64_t left = evict - (p.n_tokens - kept[head]);
    if (left >= 0) ForEachSplit(p, head + 1, left, kept, visit);
  }
}

// Relaxing can only make the loss smaller, and the budgets that are best for the relaxed loss are some budgets:
//   relaxed optimum <= unrelaxed optimum <= unrelaxed loss of the greedy budgets.
// Where no head's budget lies inside a chord of its hull, the greedy budgets are optimal for the unrelaxed loss too.
TEST(SolveBudgets, BoundsTheBruteForceOptimumOfTheUnrelaxedLoss) {
  int at_corners = 0, inside = 0;
  for (uint32_t seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    const Problem p = RandomProblem(random, 3, 9);
    const std::vector<int32_t> kept = SolveBudgets(p.n_tokens, p.n_protected, p.n_heads, p.relaxed);
    const auto heads = static_cast<size_t>(p.n_heads);
    for (int32_t percent = 3; percent <= kRatios; percent += 6) {
      const std::span<const int32_t> row(&kept[static_cast<size_t>(percent - 1) * heads], heads);
      const int64_t evicted = std::min(EntriesToEvict(percent, p.n_heads, p.n_tokens), MostThatMayGo(p));
      double optimum = std::numeric_limits<double>::infinity();
      double relaxed_optimum = optimum;
      std::vector<int32_t> split(heads);
      ForEachSplit(p, 0, evicted, split, [&](std::span<const int32_t> candidate) {
        optimum = std::min(optimum, LossAt(p, p.decrements, candidate));
        relaxed_optimum = std::min(relaxed_optimum, LossAt(p, p.relaxed, candidate));
      });
      const double near = 1e-9 * (1 + optimum);
      const double greedy_relaxed = LossAt(p, p.relaxed, row);
      const double greedy = LossAt(p, p.decrements, row);
      ASSERT_NEAR(greedy_relaxed, relaxed_optimum, near) << "seed " << seed << ", " << percent << " %";
      ASSERT_LE(relaxed_optimum, optimum + near) << "seed " << seed << ", " << percent << " %";
      ASSERT_GE(greedy, optimum - near) << "seed " << seed << ", " << percent << " %";
      const bool corners = std::abs(greedy - greedy_relaxed) <= near;
      (corners ? at_corners : inside) += 1;
      if (corners) {
        ASSERT_NEAR(greedy, optimum, near) << "seed " << seed << ", " << percent << " %";
      }
    }
  }
  // Both kinds came up.
  EXPECT_GT(at_corners, 100);
  EXPECT_GT(inside, 100);
}

TEST(SolveBudgets, WorthlessHeadsGoFirst) {
  constexpr int32_t kTokens = 200;
  std::vector<double> relaxed(2 * kTokens, 0.0);
  std::fill_n(relaxed.begin(), kTokens, 1.0);
  const std::vector<int32_t> kept = SolveBudgets(kTokens, 0, 2, relaxed);
  EXPECT_EQ(kept[2 * 48], kTokens);  // 49 % of both is 98 % of the second.
  EXPECT_EQ(kept[2 * 48 + 1], 4);
  EXPECT_EQ(kept[2 * 59], 158);  // 60 %: the second at its floor of 2.
  EXPECT_EQ(kept[2 * 59 + 1], 2);
}

}  // namespace
}  // namespace lukv
