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
  bool norm;
};
constexpr Shape kShapes[] = {{9, 3, 64, false}, {4, 4, 96, true}, {8, 2, 128, false}, {8, 1, 10, true},
                             {3, 1, 24, false}, {2, 2, 2, true},  {2, 1, 80, false},  {1, 1, 256, false}};
constexpr float kEpsilon = 1e-6f;

struct Moments {
  std::vector<float> pivot;
  std::vector<float> sum;
  std::vector<float> products;  // Below the diagonal: zeros.
};

class QueryMomentsOp : public BackendTest {
 protected:
  // Rows [first, first + n) in calls of at most `step` rows.
  Moments Run(Backend& backend, const Shape& shape, const DeviceMatrix& qkv, int64_t first, int64_t n, int64_t step) {
    const size_t dim = static_cast<size_t>(shape.head_dim);
    const size_t heads = static_cast<size_t>(shape.n_heads);
    const DeviceArray<float> norm(backend, Norm(shape));
    const DeviceArray<float> pivot(backend, heads * dim);
    const DeviceArray<float> sum(backend, heads * dim);
    const DeviceArray<float> products(backend, heads * dim * dim);
    for (int64_t begin = first; begin < first + n; begin += step) {
      const absl::Status status = backend.QueryMoments({.qkv = qkv.view(),
                                                        .row_begin = begin,
                                                        .row_end = std::min(begin + step, first + n),
                                                        .n_heads = shape.n_heads,
                                                        .n_kv_heads = shape.n_kv_heads,
                                                        .head_dim = shape.head_dim,
                                                        .q_norm = shape.norm ? norm.data() : nullptr,
                                                        .norm_epsilon = kEpsilon,
                                                        .reset = begin == first,
                                                        .moments = {pivot.out(), sum.out(), products.out()}});
      EXPECT_TRUE(status.ok()) << status;
    }
    Moments moments = {pivot.Get(), sum.Get(), products.Get()};
    for (size_t at = 0; at < moments.products.size(); at += dim * dim) {
      for (size_t i = 0; i < dim; ++i)
        std::fill_n(moments.products.begin() + static_cast<ptrdiff_t>(at + i * dim), i, 0.0f);
    }
    return moments;
  }

  static std::vector<float> Norm(const Shape& shape) {
    return Random(7).Values(static_cast<size_t>(shape.head_dim), 1.0f);
  }
  static size_t RowSize(const Shape& shape) {
    return static_cast<size_t>((shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim);
  }
  // Rows whose queries share a big part, another one in each dimension; what is not a query is NaN. As the backend's
  // activations hold them.
  std::vector<float> Rows(const Shape& shape, int64_t n, float bias) const {
    Random random(8);
    std::vector<float> rows;
    for (int64_t r = 0; r < n; ++r) {
      for (size_t i = 0; i < RowSize(shape); ++i) {
        const bool is_query = i < static_cast<size_t>(shape.n_heads * shape.head_dim);
        const float common = bias * std::sin(static_cast<float>(i));
        rows.push_back(is_query ? Rounded(common + random.Value(), backend_->activation_dtype())
                                : std::numeric_limits<float>::quiet_NaN());
      }
    }
    return rows;
  }

  static void ExpectSame(const Moments& a, const Moments& b) {
    EXPECT_TRUE(SameBits(a.pivot, b.pivot));
    EXPECT_TRUE(SameBits(a.sum, b.sum));
    EXPECT_TRUE(SameBits(a.products, b.products));
  }

  void ExpectOracle(const Shape& shape, std::span<const float> rows, int64_t n, const Moments& got) {
    const size_t dim = static_cast<size_t>(shape.head_dim);
    const std::vector<float> norm = Norm(shape);
    for (size_t h = 0; h < static_cast<size_t>(shape.n_heads); ++h) {
      // Sums over |terms|, which errors go with, beside the sums.
      oracle::Vector sum(dim), sum_size(dim), products(dim * dim), products_size(dim * dim);
      for (int64_t r = 0; r < n; ++r) {
        const std::span<const float> q = rows.subspan(static_cast<size_t>(r) * RowSize(shape) + h * dim, dim);
        const oracle::Vector normed =
            shape.norm ? oracle::RmsNorm(q, norm, kEpsilon) : oracle::Vector(q.begin(), q.end());
        if (r == 0) {
          for (size_t i = 0; i < dim; ++i) {
            // Without a norm nothing is computed.
            const double error = shape.norm ? GetParam().f32_tolerance * std::abs(normed[i]) : 0;
            ASSERT_NEAR(got.pivot[h * dim + i], normed[i], error);
          }
        }
        for (size_t i = 0; i < dim; ++i) {
          // Norming rounds before the pivot is taken off.
          const double rounding = shape.norm ? std::abs(normed[i]) : 0;
          const double x = normed[i] - got.pivot[h * dim + i];
          sum[i] += x;
          sum_size[i] += std::abs(x) + rounding;
          for (size_t j = 0; j < dim; ++j) {
            const double y = normed[j] - got.pivot[h * dim + j];
            products[i * dim + j] += x * y;
            products_size[i * dim + j] += std::abs(x * y) + rounding * std::abs(y) + std::abs(x) * rounding;
          }
        }
      }
      for (size_t i = 0; i < dim; ++i) {
        ASSERT_NEAR(got.sum[h * dim + i], sum[i], GetParam().f32_tolerance * sum_size[i])
            << "head " << h << " dim " << i;
        for (size_t j = i; j < dim; ++j) {
          ASSERT_NEAR(got.products[(h * dim + i) * dim + j], products[i * dim + j],
                      GetParam().f32_tolerance * products_size[i * dim + j])
              << "head " << h << " element " << i << ", " << j;
        }
      }
    }
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(QueryMomentsOp);
INSTANTIATE_TEST_SUITE_P(Backends, QueryMomentsOp, testing::ValuesIn(Backends()), BackendCaseName);

TEST_P(QueryMomentsOp, AgreeWithTheOracle) {
  for (const Shape& shape : kShapes) {
    for (const int64_t n : {1, 3, 65, 150}) {
      SCOPED_TRACE(testing::Message() << shape.n_heads << " heads of " << shape.head_dim << ", " << n << " queries");
      constexpr int64_t kSkipped = 4;
      const std::vector<float> rows = Rows(shape, kSkipped + n + 2, 1.0f);
      const DeviceMatrix qkv(*backend_, kSkipped + n + 2, static_cast<int64_t>(RowSize(shape)), rows);
      ExpectOracle(shape, std::span(rows).subspan(kSkipped * RowSize(shape)), n,
                   Run(*backend_, shape, qkv, kSkipped, n, n));
    }
  }
}

TEST_P(QueryMomentsOp, LoseNothingToALargeCommonPart) {
  // The squares of the common part are 1e6 times those of what is left.
  const Shape shape = {3, 1, 64, false};
  const std::vector<float> rows = Rows(shape, 1000, 500.0f);
  const DeviceMatrix qkv(*backend_, 1000, static_cast<int64_t>(RowSize(shape)), rows);
  ExpectOracle(shape, rows, 1000, Run(*backend_, shape, qkv, 0, 1000, 512));
}

TEST_P(QueryMomentsOp, BitsDoNotDependOnChunksOrThreads) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << " heads of " << shape.head_dim);
    constexpr int64_t kRows = 200;
    const std::vector<float> rows = Rows(shape, kRows, 3.0f);
    const DeviceMatrix qkv(*backend_, kRows, static_cast<int64_t>(RowSize(shape)), rows);
    const Moments whole = Run(*backend_, shape, qkv, 2, kRows - 2, 128);
    for (const int64_t step : {1, 7, 64, 100}) ExpectSame(Run(*backend_, shape, qkv, 2, kRows - 2, step), whole);
    for (const int threads : {1, 3}) {
      const auto other = GetParam().make(threads);
      ASSERT_TRUE(other.ok());
      const DeviceMatrix other_qkv(**other, kRows, static_cast<int64_t>(RowSize(shape)), rows);
      ExpectSame(Run(**other, shape, other_qkv, 2, kRows - 2, 128), whole);
    }
  }
}

}  // namespace
}  // namespace lukv::conformance
