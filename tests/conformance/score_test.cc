// The scorers against the oracle.
#include <algorithm>
#include <cmath>

#include "tests/conformance/fixture.h"
#include "tests/conformance/oracle_evict.h"

namespace lukv::conformance {
namespace {

struct Shape {
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
};
constexpr Shape kShapes[] = {{9, 3, 64}, {4, 4, 96}, {8, 2, 128}, {8, 1, 10}, {6, 2, 24}};
constexpr int32_t kLengths[] = {1, 3, 5, 63, 64, 65, 200};
constexpr float kEpsilon = 1e-6f;

std::string Describe(const Shape& shape, int32_t n) {
  return std::to_string(shape.n_heads) + "/" + std::to_string(shape.n_kv_heads) + " heads of " +
         std::to_string(shape.head_dim) + ", " + std::to_string(n) + " tokens";
}

class Score : public KvTest {
 protected:
  static float Scale(const Shape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

  // K and V of each kv head, as the staging holds them.
  std::vector<oracle::HeadEntries> Entries(const Shape& shape, int32_t n) const {
    Random random(90);
    std::vector<oracle::HeadEntries> heads;
    for (int32_t h = 0; h < shape.n_kv_heads; ++h) {
      const size_t size = static_cast<size_t>(n * shape.head_dim);
      heads.push_back({.head_dim = shape.head_dim, .k = random.Values(size, 0.4f), .v = random.Values(size, 0.2f)});
      // Directions and norms of some variety.
      for (size_t i = 0; i < size; ++i) heads.back().k[i] *= 0.5f + static_cast<float>(i / 7 % 5) * 0.5f;
      for (float& x : heads.back().k) x = Rounded(x, GetParam().dtype);
      for (float& x : heads.back().v) x = Rounded(x, GetParam().dtype);
    }
    return heads;
  }

  // op(context, scores) on the entries at `row` of a staging that is poison everywhere else.
  template <class Op>
  std::vector<float> Run(Backend& backend, const std::vector<oracle::HeadEntries>& heads, int32_t row,
                         const Op& op) const {
    const int32_t n = heads[0].size();
    const int32_t n_kv_heads = static_cast<int32_t>(heads.size());
    Staging staging(backend, n_kv_heads, row + n + 3, heads[0].head_dim, GetParam().dtype);
    for (int32_t h = 0; h < n_kv_heads; ++h) staging.Set(h, row, heads[static_cast<size_t>(h)]);
    const DeviceArray<float> scores(backend, static_cast<size_t>(n_kv_heads * n));
    const absl::Status status =
        op(backend, StagedContext{staging.view(), row, n}, ScoreMatrix{scores.out(), n_kv_heads, n});
    EXPECT_TRUE(status.ok()) << status;
    return scores.Get();
  }

  // Bits are the same on 1 and 3 threads, and wherever in the staging the entries lie.
  template <class Op>
  void ExpectSameBitsAnywhere(const Shape& shape, int32_t n, const Op& op) const {
    const std::vector<oracle::HeadEntries> heads = Entries(shape, n);
    const std::vector<float> scores = Run(*backend_, heads, 17, op);
    EXPECT_TRUE(SameBits(Run(*backend_, heads, 0, op), scores));
    for (const int threads : {1, 3}) {
      const auto other = GetParam().backend.make(threads);
      ASSERT_TRUE(other.ok());
      EXPECT_TRUE(SameBits(Run(**other, heads, 17, op), scores));
    }
  }

  // Errors are relative to the score, or to what it is the small difference of.
  void ExpectScores(std::span<const float> got, const oracle::Vector& expected, double relative, double size) const {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      // Softmax weights below the smallest normal number may be lost.
      const double tolerance = GetParam().backend.f32_tolerance * (relative * std::abs(expected[i]) + size);
      ASSERT_NEAR(got[i], expected[i], tolerance + 0x1p-123) << "entry " << i;
    }
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Score);
INSTANTIATE_TEST_SUITE_P(Backends, Score, testing::ValuesIn(StagingCases()), KvCaseName);

// ---- Keys alone ------------------------------------------------------------------------------------------------

absl::Status KeyDiff(Backend& backend, const StagedContext& context, const ScoreMatrix& scores) {
  return backend.ScoreKeyDiff({context, scores});
}
absl::Status KeyNorm(Backend& backend, const StagedContext& context, const ScoreMatrix& scores) {
  return backend.ScoreKeyNorm({context, scores});
}

TEST_P(Score, KeyNorm) {
  for (const Shape& shape : kShapes) {
    for (const int32_t n : {1, 3, 65, 1000}) {
      SCOPED_TRACE(Describe(shape, n));
      const auto heads = Entries(shape, n);
      ExpectScores(Run(*backend_, heads, 5, KeyNorm), oracle::ScoreKeyNorm(heads), 1, 0);
    }
  }
  ExpectSameBitsAnywhere({4, 2, 64}, 1000, KeyNorm);
}

TEST_P(Score, KeyDiff) {
  for (const Shape& shape : kShapes) {
    for (const int32_t n : {1, 3, 65, 257, 1000}) {
      SCOPED_TRACE(Describe(shape, n));
      auto heads = Entries(shape, n);
      // A key without a direction.
      if (n > 3) std::fill_n(heads[0].k.begin() + 2 * shape.head_dim, shape.head_dim, 0.0f);
      ExpectScores(Run(*backend_, heads, 5, KeyDiff), oracle::ScoreKeyDiff(heads), 1, 1);
    }
  }
  ExpectSameBitsAnywhere({4, 2, 64}, 1000, KeyDiff);
}

TEST_P(Score, KeyDiffOfZerosIsZero) {
  std::vector<oracle::HeadEntries> heads = {{.head_dim = 10, .k = std::vector<float>(50), .v = std::vector<float>(50)}};
  for (const float score : Run(*backend_, heads, 1, KeyDiff)) EXPECT_EQ(score, 0);
}

TEST_P(Score, KeyDiffAtLength) {
  const Shape shape = {2, 2, 128};
  const auto heads = Entries(shape, 5000);
  ExpectScores(Run(*backend_, heads, 5, KeyDiff), oracle::ScoreKeyDiff(heads), 1, 1);
}

// ---- SnapKV ----------------------------------------------------------------------------------------------------

struct SnapSettings {
  int32_t window;
  int32_t kernel;
  Pooling pooling;
};

class ScoreSnapKv : public Score {
 protected:
  // As the backend's activations hold them.
  std::vector<float> Queries(const Shape& shape, int32_t window) const {
    std::vector<float> q = Random(91).Values(static_cast<size_t>(window * shape.n_heads * shape.head_dim), 0.1f);
    // Queries that look at something: weights over several orders of magnitude.
    for (float& x : q) x = Rounded(3 * x, backend_->activation_dtype());
    return q;
  }

  static auto Op(const Shape& shape, const SnapSettings& settings, std::span<const float> q) {
    return [shape, settings, q](Backend& backend, const StagedContext& context, const ScoreMatrix& scores) {
      const DeviceMatrix window_q(backend, settings.window, int64_t{shape.n_heads} * shape.head_dim, q);
      return backend.ScoreSnapKv({.context = context,
                                  .n_heads = shape.n_heads,
                                  .window_q = window_q.view(),
                                  .kernel = settings.kernel,
                                  .pooling = settings.pooling,
                                  .scale = Scale(shape),
                                  .scores = scores});
    };
  }

  void Check(const Shape& shape, const SnapSettings& settings, int32_t n) const {
    SCOPED_TRACE(Describe(shape, n) + ", window " + std::to_string(settings.window) + ", kernel " +
                 std::to_string(settings.kernel));
    const auto heads = Entries(shape, n);
    const std::vector<float> q = Queries(shape, settings.window);
    const oracle::Scored expected =
        oracle::ScoreSnapKv(heads, q, shape.n_heads, settings.kernel, settings.pooling, double{Scale(shape)});
    ExpectScores(Run(*backend_, heads, 5, Op(shape, settings, q)), expected.scores, 2 + expected.logit_size, 0);
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ScoreSnapKv);
INSTANTIATE_TEST_SUITE_P(Backends, ScoreSnapKv, testing::ValuesIn(StagingCases()), KvCaseName);

TEST_P(ScoreSnapKv, AgreesWithTheOracle) {
  for (const Shape& shape : kShapes) {
    for (const int32_t n : kLengths) {
      Check(shape, {std::min(n, 32), 7, Pooling::kMax}, n);
      Check(shape, {std::min(n, 3), 5, Pooling::kAverage}, n);
    }
  }
}

TEST_P(ScoreSnapKv, BothPublishedSettingsAtLength) {
  Check({9, 3, 64}, {32, 7, Pooling::kMax}, 1000);
  Check({9, 3, 64}, {64, 5, Pooling::kAverage}, 1000);
  Check({2, 1, 16}, {4, 7, Pooling::kMax}, 9000);
}

TEST_P(ScoreSnapKv, WideHeadsAndManyQueries) {
  Check({8, 1, 128}, {70, 5, Pooling::kAverage}, 150);
  Check({3, 1, 256}, {32, 7, Pooling::kMax}, 150);
}

TEST_P(ScoreSnapKv, OddKernels) {
  for (const Pooling pooling : {Pooling::kMax, Pooling::kAverage}) {
    Check({2, 1, 10}, {4, 1, pooling}, 100);
    Check({2, 1, 10}, {4, 63, pooling}, 100);
    Check({2, 1, 10}, {4, 1001, pooling}, 100);  // Wider than the text.
    Check({2, 1, 10}, {4, 3, pooling}, 5);
  }
}

TEST_P(ScoreSnapKv, HeadsThatAreTakenOneAfterTheOther) {
  // The weights of all kv heads together would take more memory than the CPU backend uses at once.
  Check({16, 4, 16}, {40, 7, Pooling::kMax}, 1900);
}

TEST_P(ScoreSnapKv, BitsAreTheSameAnywhere) {
  const Shape shape = {6, 2, 64};
  const std::vector<float> q = Queries(shape, 32);
  ExpectSameBitsAnywhere(shape, 700, Op(shape, {32, 7, Pooling::kMax}, q));
  ExpectSameBitsAnywhere(shape, 700, Op(shape, {32, 5, Pooling::kAverage}, q));
}

// ---- ExpectedAttention -----------------------------------------------------------------------------------------

struct ExpectedSettings {
  RopeLayout layout = RopeLayout::kHalfSplit;
  bool norm = false;
  float query_bias = 1;
  float magnitude = 1;
  int32_t n_first = 4;
  int32_t n_future = 40;
  float epsilon = 0.02f;
};

class ScoreExpected : public Score {
 protected:
  static constexpr int32_t kQueries = 130;

  static size_t RowSize(const Shape& shape) {
    return static_cast<size_t>((shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim);
  }
  // Correlated, with a common part; as the backend's activations hold them.
  std::vector<float> Rows(const Shape& shape, float bias) const {
    Random random(92);
    std::vector<float> rows;
    for (int32_t r = 0; r < kQueries; ++r) {
      float last = 0;
      for (size_t i = 0; i < RowSize(shape); ++i) {
        last = 0.5f * last + random.Value();
        rows.push_back(Rounded(bias * std::sin(static_cast<float>(i)) + last, backend_->activation_dtype()));
      }
    }
    return rows;
  }
  static std::vector<float> Norm(const Shape& shape) {
    return Random(93).Values(static_cast<size_t>(shape.head_dim), 1.0f);
  }

  static auto Op(const Shape& shape, const ExpectedSettings& settings, std::span<const float> rows) {
    return [shape, settings, rows](Backend& backend, const StagedContext& context, const ScoreMatrix& scores) {
      const size_t dims = static_cast<size_t>(shape.n_heads * shape.head_dim);
      const DeviceMatrix qkv(backend, kQueries, static_cast<int64_t>(RowSize(shape)), rows);
      const DeviceArray<float> norm(backend, Norm(shape));
      const DeviceArray<float> frequencies(backend, Frequencies(shape.head_dim));
      const DeviceArray<float> pivot(backend, dims);
      const DeviceArray<float> sum(backend, dims);
      const DeviceArray<float> products(backend, dims * static_cast<size_t>(shape.head_dim));
      const QueryMoments moments = {pivot.out(), sum.out(), products.out()};
      const absl::Status status = backend.QueryMoments({.qkv = qkv.view(),
                                                        .row_begin = 0,
                                                        .row_end = kQueries,
                                                        .n_heads = shape.n_heads,
                                                        .n_kv_heads = shape.n_kv_heads,
                                                        .head_dim = shape.head_dim,
                                                        .q_norm = settings.norm ? norm.data() : nullptr,
                                                        .norm_epsilon = kEpsilon,
                                                        .reset = true,
                                                        .moments = moments});
      if (!status.ok()) return status;
      return backend.ScoreExpectedAttention({.context = context,
                                             .n_heads = shape.n_heads,
                                             .moments = moments,
                                             .count = kQueries,
                                             .inverse_frequency = frequencies.data(),
                                             .rope_magnitude = settings.magnitude,
                                             .layout = settings.layout,
                                             .next_position = Position{kNext},
                                             .n_future = settings.n_future,
                                             .n_first = settings.n_first,
                                             .epsilon = settings.epsilon,
                                             .scale = Scale(shape),
                                             .scores = scores});
    };
  }

  // Of each query head, turned.
  static std::vector<oracle::Statistics> Statistics(const Shape& shape, const ExpectedSettings& settings,
                                                    std::span<const float> rows) {
    const size_t dim = static_cast<size_t>(shape.head_dim);
    std::vector<oracle::Statistics> all;
    for (size_t h = 0; h < static_cast<size_t>(shape.n_heads); ++h) {
      std::vector<oracle::Vector> queries;
      for (size_t r = 0; r < kQueries; ++r) {
        const std::span<const float> q = rows.subspan(r * RowSize(shape) + h * dim, dim);
        queries.push_back(settings.norm ? oracle::RmsNorm(q, Norm(shape), kEpsilon)
                                        : oracle::Vector(q.begin(), q.end()));
      }
      all.push_back(oracle::Turned(oracle::Statistic(queries), kNext, settings.n_future, Frequencies(shape.head_dim),
                                   double{settings.magnitude}, settings.layout));
    }
    return all;
  }

  void Check(const Shape& shape, const ExpectedSettings& settings, const std::vector<int32_t>& lengths) const {
    const std::vector<float> rows = Rows(shape, settings.query_bias);
    const std::vector<oracle::Statistics> queries = Statistics(shape, settings, rows);
    for (const int32_t n : lengths) {
      SCOPED_TRACE(Describe(shape, n));
      const auto heads = Entries(shape, n);
      const oracle::Scored expected = oracle::ScoreExpectedAttention(heads, queries, settings.n_first,
                                                                     double{settings.epsilon}, double{Scale(shape)});
      ExpectScores(Run(*backend_, heads, 5, Op(shape, settings, rows)), expected.scores, 2 + expected.logit_size, 0);
    }
  }

  static constexpr int32_t kNext = 2000;
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ScoreExpected);
INSTANTIATE_TEST_SUITE_P(Backends, ScoreExpected, testing::ValuesIn(StagingCases()), KvCaseName);

TEST_P(ScoreExpected, AgreesWithTheOracle) {
  const std::vector<int32_t> lengths(std::begin(kLengths), std::end(kLengths));
  Check(kShapes[0], {.layout = RopeLayout::kInterleaved}, lengths);
  Check(kShapes[1], {.norm = true, .magnitude = 1.2f, .epsilon = 0}, lengths);
  Check(kShapes[2], {}, {1, 65});
  Check(kShapes[3], {.layout = RopeLayout::kInterleaved, .norm = true}, lengths);
  Check(kShapes[4], {.epsilon = 0}, lengths);
}

TEST_P(ScoreExpected, AtLengthWithTheRealFuture) {
  Check({3, 1, 64}, {.n_first = 4, .n_future = 512}, {1000});
  Check({2, 1, 10}, {.n_first = 4, .n_future = 512}, {5000});
}

TEST_P(ScoreExpected, WideHeads) { Check({2, 1, 256}, {}, {70}); }

TEST_P(ScoreExpected, QueriesWithALargeCommonPart) {
  Check({4, 2, 64}, {.query_bias = 20, .epsilon = 0}, {300});
  Check({4, 2, 64}, {.layout = RopeLayout::kInterleaved, .query_bias = 20, .epsilon = 0}, {300});
}

TEST_P(ScoreExpected, FirstEntries) {
  Check({4, 2, 10}, {.n_first = 0}, {1, 70});
  Check({4, 2, 10}, {.n_first = 66}, {65, 66, 67, 200});
}

TEST_P(ScoreExpected, BitsAreTheSameAnywhere) {
  const Shape shape = {6, 2, 64};
  const std::vector<float> rows = Rows(shape, 1);
  ExpectSameBitsAnywhere(shape, 700, Op(shape, {}, rows));
}

}  // namespace
}  // namespace lukv::conformance
