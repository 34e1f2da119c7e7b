// SelectTop and AdaptiveBudgets: exactly what a stable sort says.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/conformance/fixture.h"
#include "tests/conformance/oracle_evict.h"

namespace lukv::conformance {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Scores of some heads, all over the range of f32, few of them distinct where `distinct` is small.
std::vector<float> Scores(Random& random, int32_t n, int32_t distinct) {
  const float special[] = {kNan, -kNan, kInf, -kInf, 0.0f, -0.0f, 1e-42f, -1e-42f, 3e38f, -3e38f};
  std::vector<float> scores(static_cast<size_t>(n));
  for (float& s : scores) {
    if (random.Below(10) == 0) {
      s = special[random.Below(10)];
    } else if (distinct == 0) {
      s = std::ldexp(random.Value(), random.Below(60) - 30);
    } else {
      s = static_cast<float>(random.Below(distinct) - distinct / 2) * 0.5f;
    }
  }
  return scores;
}

class Select : public BackendTest {
 protected:
  // counts: of each head.
  std::vector<int32_t> Run(Backend& backend, const std::vector<float>& scores, int32_t sink, int32_t window,
                           const std::vector<int32_t>& counts) {
    std::vector<int32_t> offset = {0};
    for (const int32_t k : counts) offset.push_back(offset.back() + k);
    const int32_t n_heads = static_cast<int32_t>(counts.size());
    // The scores are const to the ops though the struct's pointer is not.
    const DeviceArray<float> device_scores(backend, scores);
    const DeviceArray<int32_t> device_offset(backend, offset);
    const DeviceArray<int32_t> rows(backend, static_cast<size_t>(offset.back()));
    const absl::Status status =
        backend.SelectTop({.scores = {device_scores.out(), n_heads, static_cast<int32_t>(scores.size()) / n_heads},
                           .sink = sink,
                           .window = window,
                           .kept_offset = device_offset.data(),
                           .kept_rows = rows.out()});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(SameBits(device_scores.Get(), scores)) << "scores were written";
    return rows.Get();
  }

  std::vector<int32_t> Budgets(Backend& backend, const std::vector<float>& scores, int32_t n_heads, int32_t sink,
                               int32_t window, int32_t n_kept, int32_t n_safe) {
    const DeviceArray<float> device_scores(backend, scores);
    const DeviceArray<int32_t> budgets(backend, static_cast<size_t>(n_heads));
    const absl::Status status = backend.AdaptiveBudgets(
        {.scores = {device_scores.out(), n_heads, static_cast<int32_t>(scores.size()) / n_heads},
         .sink = sink,
         .window = window,
         .n_kept = n_kept,
         .n_safe = n_safe,
         .budgets = budgets.out()});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(SameBits(device_scores.Get(), scores)) << "scores were written";
    return budgets.Get();
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Select);
INSTANTIATE_TEST_SUITE_P(Backends, Select, testing::ValuesIn(Backends()), BackendCaseName);

using Rows = std::vector<int32_t>;

TEST_P(Select, PrefersTheProtectedThenTheBestThenTheLower) {
  const std::vector<float> scores = {5, 1, kInf, 3, 3, kNan, -1, 3, -kInf, 0};
  EXPECT_EQ(Run(*backend_, scores, 0, 0, {3}), Rows({0, 2, 3}));
  EXPECT_EQ(Run(*backend_, scores, 0, 0, {4}), Rows({0, 2, 3, 4}));
  EXPECT_EQ(Run(*backend_, scores, 0, 0, {9}), Rows({0, 1, 2, 3, 4, 6, 7, 8, 9}));  // All but NaN.
  EXPECT_EQ(Run(*backend_, scores, 2, 1, {4}), Rows({0, 1, 2, 9}));
  // Protected entries beyond what is kept: the lower ones.
  EXPECT_EQ(Run(*backend_, scores, 4, 3, {3}), Rows({0, 1, 2}));
  EXPECT_EQ(Run(*backend_, scores, 0, 6, {2}), Rows({4, 5}));
  EXPECT_EQ(Run(*backend_, {0.0f, -0.0f, 0.0f, -0.0f}, 0, 0, {2}), Rows({0, 1}));
  EXPECT_EQ(Run(*backend_, {kNan, -kNan, kNan}, 0, 0, {1}), Rows({0}));
}

TEST_P(Select, AgreesWithTheOracle) {
  Random random(1);
  for (const int32_t n : {1, 2, 5, 63, 64, 65, 1000}) {
    for (const int32_t distinct : {0, 1, 3, 40}) {
      for (const auto& [sink, window] : std::vector<std::pair<int32_t, int32_t>>{{0, 0}, {4, 1}, {n, 0}, {7, 2 * n}}) {
        const int32_t n_heads = 1 + random.Below(5);
        const std::vector<float> scores = Scores(random, n_heads * n, distinct);
        std::vector<int32_t> counts;
        Rows expected;
        for (int32_t h = 0; h < n_heads; ++h) {
          const int32_t choices[] = {0, 1, n, random.Below(n + 1)};
          counts.push_back(choices[random.Below(4)]);
          const Rows rows =
              oracle::SelectTop(std::span(scores).subspan(static_cast<size_t>(h * n), static_cast<size_t>(n)),
                                std::min(sink, n), std::min(window, n), counts.back());
          expected.insert(expected.end(), rows.begin(), rows.end());
        }
        ASSERT_EQ(Run(*backend_, scores, sink, window, counts), expected)
            << n << " tokens, " << distinct << " distinct, sink " << sink << ", window " << window;
      }
    }
  }
}

TEST_P(Select, BudgetsGoToTheBestOfAllHeads) {
  //                                   head 0       head 1      head 2
  const std::vector<float> scores = {1, 2, 4, 4, 9, 8, 7, 6, 0, 0, 0, 4};
  EXPECT_EQ(Budgets(*backend_, scores, 3, 0, 0, 2, 0), Rows({2, 4, 0}));  // The 4s of head 0 come first.
  EXPECT_EQ(Budgets(*backend_, scores, 3, 0, 0, 2, 1), Rows({1, 4, 1}));
  EXPECT_EQ(Budgets(*backend_, scores, 3, 0, 0, 2, 2), Rows({2, 2, 2}));
  EXPECT_EQ(Budgets(*backend_, scores, 3, 1, 0, 2, 0), Rows({1, 4, 1}));  // 1, 9 and a 0 are protected.
  EXPECT_EQ(Budgets(*backend_, scores, 3, 0, 0, 4, 1), Rows({4, 4, 4}));
  // All the same: safe ones first, the rest by head.
  EXPECT_EQ(Budgets(*backend_, std::vector<float>(12, 0.5f), 3, 0, 0, 2, 1), Rows({4, 1, 1}));
}

TEST_P(Select, BudgetsAgreeWithTheOracle) {
  Random random(2);
  for (const int32_t n : {1, 2, 5, 63, 64, 65, 500}) {
    for (const int32_t distinct : {0, 1, 3, 40}) {
      for (const auto& [sink, window] : std::vector<std::pair<int32_t, int32_t>>{{0, 0}, {4, 1}, {n, 0}, {7, 2 * n}}) {
        const int32_t n_heads = 1 + random.Below(5);
        const int32_t n_kept = 1 + random.Below(n);
        const int32_t n_safe = random.Below(n_kept + 1);
        const std::vector<float> scores = Scores(random, n_heads * n, distinct);
        const Rows budgets = Budgets(*backend_, scores, n_heads, sink, window, n_kept, n_safe);
        ASSERT_EQ(budgets,
                  oracle::AdaptiveBudgets(scores, n_heads, std::min(sink, n), std::min(window, n), n_kept, n_safe))
            << n << " tokens, " << distinct << " distinct, sink " << sink << ", window " << window;
        ASSERT_EQ(std::accumulate(budgets.begin(), budgets.end(), 0), n_heads * n_kept);
      }
    }
  }
}

TEST_P(Select, AgreesWithTheOracleAtLength) {
  constexpr int32_t kTokens = 5000;
  constexpr int32_t kHeads = 5;
  Random random(4);
  std::vector<float> skewed(size_t{kTokens} * kHeads);  // As softmax weights are: few that are large.
  for (float& s : skewed) s = std::exp(4 * random.Value() - 8);
  std::vector<float> few(skewed.size(), kNan);  // Not even as many numbers as are wanted.
  for (size_t i = 0; i < few.size(); i += 7) few[i] = random.Value();
  const std::vector<float> cases[] = {skewed, few, std::vector<float>(skewed.size(), 0.25f),
                                      Scores(random, kTokens * kHeads, 2), Scores(random, kTokens * kHeads, 0)};
  const std::vector<int32_t> counts = {0, 1, kTokens, 1234, kTokens - 1};
  for (size_t i = 0; i < std::size(cases); ++i) {
    SCOPED_TRACE(i);
    Rows expected;
    for (size_t h = 0; h < kHeads; ++h) {
      const Rows rows = oracle::SelectTop(std::span(cases[i]).subspan(h * kTokens, kTokens), 4, 32, counts[h]);
      expected.insert(expected.end(), rows.begin(), rows.end());
    }
    ASSERT_EQ(Run(*backend_, cases[i], 4, 32, counts), expected);
    ASSERT_EQ(Budgets(*backend_, cases[i], kHeads, 4, 32, 1000, 200),
              oracle::AdaptiveBudgets(cases[i], kHeads, 4, 32, 1000, 200));
  }
}

TEST_P(Select, ThreadsMakeNoDifference) {
  Random random(3);
  const std::vector<float> scores = Scores(random, 8 * 3000, 20);
  const std::vector<int32_t> counts = {0, 1, 17, 500, 1500, 2999, 3000, 600};
  const Rows rows = Run(*backend_, scores, 4, 1, counts);
  const Rows budgets = Budgets(*backend_, scores, 8, 4, 1, 600, 120);
  for (const int threads : {1, 3}) {
    const auto other = GetParam().make(threads);
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(Run(**other, scores, 4, 1, counts), rows);
    EXPECT_EQ(Budgets(**other, scores, 8, 4, 1, 600, 120), budgets);
  }
}

}  // namespace
}  // namespace lukv::conformance
