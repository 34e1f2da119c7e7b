// RopeStage and Append: the same split, norm and rotation, into staging and into pages.
#include <cmath>
#include <map>

#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

struct RopeShape {
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
  RopeLayout layout;
  bool norm;
  float magnitude;
};
constexpr RopeShape kShapes[] = {
    {9, 3, 64, RopeLayout::kInterleaved, false, 1.0f},  {4, 4, 96, RopeLayout::kHalfSplit, true, 1.0f},
    {8, 1, 128, RopeLayout::kHalfSplit, false, 1.25f},  {4, 2, 10, RopeLayout::kHalfSplit, true, 1.0f},
    {3, 1, 24, RopeLayout::kInterleaved, true, 0.5f},   {2, 2, 2, RopeLayout::kInterleaved, false, 1.0f},
    {16, 2, 256, RopeLayout::kInterleaved, false, 1.0f}};

constexpr float kEpsilon = 1e-6f;

// The input rows of one call and what has to come out.
class QkvRows {
 public:
  QkvRows(Backend& backend, const RopeShape& shape, const std::vector<int32_t>& positions, uint32_t seed)
      : shape_(shape),
        positions_(positions),
        frequencies_(Frequencies(shape.head_dim, 100000)),
        q_norm_(Random(seed + 1).Values(static_cast<size_t>(shape.head_dim), 1.0f)),
        k_norm_(Random(seed + 2).Values(static_cast<size_t>(shape.head_dim), 1.0f)),
        qkv_(backend, rows(), heads() * shape.head_dim,
             Random(seed).Values(static_cast<size_t>(rows() * heads() * shape.head_dim), 0.2f)),
        q_out_(backend, rows(), int64_t{shape.n_heads} * shape.head_dim, backend.activation_dtype()),
        device_positions_(backend, positions),
        device_frequencies_(backend, frequencies_),
        device_q_norm_(backend, q_norm_),
        device_k_norm_(backend, k_norm_),
        in_(qkv_.Get()) {}

  QkvArgs args() const {
    return {.qkv = qkv_.view(),
            .positions = reinterpret_cast<const Position*>(device_positions_.data()),
            .n_heads = shape_.n_heads,
            .n_kv_heads = shape_.n_kv_heads,
            .head_dim = shape_.head_dim,
            .inverse_frequency = device_frequencies_.data(),
            .rope_magnitude = shape_.magnitude,
            .layout = shape_.layout,
            .q_norm = shape_.norm ? device_q_norm_.data() : nullptr,
            .k_norm = shape_.norm ? device_k_norm_.data() : nullptr,
            .norm_epsilon = kEpsilon,
            .q_out = q_out_.view()};
  }

  int64_t rows() const { return static_cast<int64_t>(positions_.size()); }
  int64_t heads() const { return int64_t{shape_.n_heads} + 2 * shape_.n_kv_heads; }

  // Head h of the [q | k | v] of a row, as given.
  std::span<const float> Input(size_t row, int32_t head) const {
    const size_t dim = static_cast<size_t>(shape_.head_dim);
    return std::span(in_).subspan((row * static_cast<size_t>(heads()) + static_cast<size_t>(head)) * dim, dim);
  }
  oracle::Vector Q(size_t row, int32_t head) const { return Rotated(row, Input(row, head), q_norm_); }
  oracle::Vector K(size_t row, int32_t head) const { return Rotated(row, Input(row, shape_.n_heads + head), k_norm_); }
  std::span<const float> V(size_t row, int32_t head) const {
    return Input(row, shape_.n_heads + shape_.n_kv_heads + head);
  }

  void ExpectQueries(double tolerance) const {
    const std::vector<float> got = q_out_.Get();
    size_t i = 0;
    for (size_t r = 0; r < positions_.size(); ++r) {
      for (int32_t h = 0; h < shape_.n_heads; ++h) {
        for (const double expected : Q(r, h)) {
          ASSERT_NEAR(got[i++], expected, tolerance) << "q row " << r << " head " << h << " position " << positions_[r];
        }
      }
    }
  }
  std::vector<float> queries() const { return q_out_.Get(); }

 private:
  oracle::Vector Rotated(size_t row, std::span<const float> head, std::span<const float> norm) const {
    const oracle::Vector normed =
        shape_.norm ? oracle::RmsNorm(head, norm, kEpsilon) : oracle::Vector(head.begin(), head.end());
    return oracle::Rotate(normed, positions_[row], frequencies_, shape_.magnitude, shape_.layout);
  }

  const RopeShape shape_;
  const std::vector<int32_t> positions_;
  const std::vector<float> frequencies_;
  const std::vector<float> q_norm_;
  const std::vector<float> k_norm_;
  const DeviceMatrix qkv_;
  const DeviceMatrix q_out_;
  const DeviceArray<int32_t> device_positions_;
  const DeviceArray<float> device_frequencies_;
  const DeviceArray<float> device_q_norm_;
  const DeviceArray<float> device_k_norm_;
  const std::vector<float> in_;
};

constexpr double kSize = 8;  // Rotated values lie within this.

class RopeStage : public KvTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RopeStage);
INSTANTIATE_TEST_SUITE_P(Backends, RopeStage, testing::ValuesIn(StagingCases()), KvCaseName);

TEST_P(RopeStage, AgreesWithTheOracleAndTouchesNothingElse) {
  // Far positions need the angle's reduction to be exact.
  const std::vector<int32_t> positions = {0, 1, 2, 77, 4095, 8191, 131071, 1000003, 5,
                                          3, 3, 9, 10, 11,   12,   13,     14,      500};
  constexpr int32_t kFirst = 5;
  for (const RopeShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim);
    const QkvRows rows(*backend_, shape, positions, 10);
    const int32_t n = static_cast<int32_t>(positions.size());
    const Staging staging(*backend_, shape.n_kv_heads, kFirst + n + 2, shape.head_dim, GetParam().dtype);
    const std::vector<std::byte> before = staging.Bytes();
    ASSERT_TRUE(backend_->RopeStage({.qkv = rows.args(), .staging = staging.view(), .staging_row = kFirst}).ok());
    rows.ExpectQueries(Tolerance(kSize));
    for (int32_t h = 0; h < shape.n_kv_heads; ++h) {
      const oracle::HeadEntries got = staging.Get(h, kFirst, n);
      for (size_t r = 0; r < positions.size(); ++r) {
        const oracle::Vector k = rows.K(r, h);
        for (size_t d = 0; d < k.size(); ++d) {
          ASSERT_NEAR(got.k[r * k.size() + d], k[d], StoreTolerance(std::abs(k[d])) + Tolerance(kSize));
          ASSERT_EQ(got.v[r * k.size() + d], Rounded(rows.V(r, h)[d], GetParam().dtype));
        }
      }
    }
    // Put the poison back where rows were written: nothing else may differ.
    std::vector<std::byte> after = staging.Bytes();
    const size_t row_bytes = static_cast<size_t>(shape.head_dim) * ElementBytes(GetParam().dtype);
    const size_t head_bytes = row_bytes * static_cast<size_t>(kFirst + n + 2);
    for (size_t begin = kFirst * row_bytes; begin < after.size(); begin += head_bytes) {
      std::fill_n(after.begin() + static_cast<ptrdiff_t>(begin), static_cast<size_t>(n) * row_bytes, std::byte{0xff});
    }
    EXPECT_EQ(after, before);
  }
}

class Append : public KvTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Append);
INSTANTIATE_TEST_SUITE_P(Backends, Append, testing::ValuesIn(PagedCases()), KvCaseName);

TEST_P(Append, WritesEachHeadsOwnNextEntries) {
  for (const RopeShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim);
    const WorldShape world_shape = {.n_layers = 2,
                                    .n_kv_heads = shape.n_kv_heads,
                                    .head_dim = shape.head_dim,
                                    .page_tokens = GetParam().page_tokens,
                                    .dtype = GetParam().dtype};
    // Nothing kept, up to one entry short of a page, a full page, more than a page.
    Random random(20);
    std::vector<std::vector<int32_t>> kept(4);
    for (auto& slot : kept) {
      for (int32_t i = 0; i < 2 * shape.n_kv_heads; ++i) {
        constexpr int32_t kLengths[] = {0, 1, 63, 64, 65, 130};
        slot.push_back(kLengths[random.Below(6)]);
      }
    }
    PagedWorld world(*backend_, world_shape, kept, 100);
    world.Fill(random, 0.0f);
    // Slot 1 stands by; slot 3 takes no rows in this step; slot 2 had generated before.
    const std::vector<int32_t> slots = {2, 0, 3};
    const std::vector<int32_t> row_start = {0, 1, 71, 71};
    world.Grow(2, 5);
    world.Grow(2, 1);
    world.Grow(0, 70);
    std::vector<int32_t> positions = {4000};
    for (int32_t i = 0; i < 70; ++i) positions.push_back(2000 + i);
    const QkvRows rows(*backend_, shape, positions, 30);
    const DeviceArray<int32_t> device_slots(*backend_, slots);
    const DeviceArray<int32_t> device_row_start(*backend_, row_start);
    const std::vector<std::byte> before = world.Bytes();
    constexpr int32_t kLayer = 1;
    ASSERT_TRUE(backend_
                    ->Append({.qkv = rows.args(),
                              .sequences = {device_slots.data(), device_row_start.data(), 3},
                              .table = world.table(),
                              .layer = kLayer,
                              .pages = world.store()})
                    .ok());
    rows.ExpectQueries(Tolerance(kSize));
    std::vector<std::byte> after = world.Bytes();
    const size_t dim = static_cast<size_t>(shape.head_dim);
    for (size_t s = 0; s < slots.size(); ++s) {
      const int32_t n = row_start[s + 1] - row_start[s];
      for (int32_t h = 0; h < shape.n_kv_heads; ++h) {
        for (int32_t j = 0; j < n; ++j) {
          const size_t row = static_cast<size_t>(row_start[s] + j);
          const int32_t entry = world.length(slots[s], kLayer, h) - n + j;
          std::byte* k_bytes = &after[world.KOffset(slots[s], kLayer, h, entry)];
          std::byte* v_bytes = &after[world.VOffset(slots[s], kLayer, h, entry)];
          const std::vector<float> k = Decode(k_bytes, dim, GetParam().dtype);
          const std::vector<float> v = Decode(v_bytes, dim, GetParam().dtype);
          const oracle::Vector expected = rows.K(row, h);
          for (size_t d = 0; d < dim; ++d) {
            ASSERT_NEAR(k[d], expected[d], StoreTolerance(std::abs(expected[d])) + Tolerance(kSize));
            ASSERT_EQ(v[d], Rounded(rows.V(row, h)[d], GetParam().dtype));
          }
          std::fill_n(k_bytes, world.row_bytes(), std::byte{0xff});
          std::fill_n(v_bytes, world.row_bytes(), std::byte{0xff});
        }
      }
    }
    EXPECT_EQ(after, before) << "something else was written";
  }
}

}  // namespace
}  // namespace lukv::conformance
