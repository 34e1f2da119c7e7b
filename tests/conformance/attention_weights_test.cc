#include <algorithm>
#include <cmath>

#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

struct Shape {
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
};

class AttentionWeights : public KvTest {
 protected:
  static constexpr int32_t kLayer = 1;

  // kept: [slots][n_kv_heads] of the layer under test.
  static PagedWorld World(Backend& backend, const KvCase& param, const Shape& shape,
                          const std::vector<std::vector<int32_t>>& kept) {
    std::vector<std::vector<int32_t>> both;
    for (const auto& heads : kept) {
      both.emplace_back(heads.size(), 5);
      both.back().insert(both.back().end(), heads.begin(), heads.end());
    }
    return PagedWorld(backend,
                      {.n_layers = 2,
                       .n_kv_heads = shape.n_kv_heads,
                       .head_dim = shape.head_dim,
                       .page_tokens = param.page_tokens,
                       .dtype = param.dtype},
                      both, 0);
  }

  static std::vector<float> Queries(const Shape& shape, int32_t rows) {
    std::vector<float> q = Random(81).Values(static_cast<size_t>(rows * shape.n_heads * shape.head_dim), 0.3f);
    for (float& x : q) x *= 2;
    return q;
  }

  static std::vector<float> Run(Backend& backend, const Shape& shape, const PagedWorld& world,
                                const std::vector<int32_t>& slots, const std::vector<int32_t>& row_start,
                                std::span<const float> q, int32_t n_entries) {
    const DeviceArray<int32_t> device_slots(backend, slots);
    const DeviceArray<int32_t> device_row_start(backend, row_start);
    const DeviceMatrix queries(backend, row_start.back(), int64_t{shape.n_heads} * shape.head_dim, q);
    const DeviceArray<float> out(backend, static_cast<size_t>(row_start.back() * shape.n_heads * n_entries));
    const absl::Status status = backend.PagedAttentionWeights(
        {.q = queries.view(),
         .n_heads = shape.n_heads,
         .sequences = {device_slots.data(), device_row_start.data(), static_cast<int32_t>(slots.size())},
         .table = world.table(),
         .layer = kLayer,
         .pages = world.store(),
         .scale = Scale(shape),
         .n_entries = n_entries,
         .out = out.out()});
    EXPECT_TRUE(status.ok()) << status;
    return out.Get();
  }

  static float Scale(const Shape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AttentionWeights);
INSTANTIATE_TEST_SUITE_P(Backends, AttentionWeights, testing::ValuesIn(PagedCases()), KvCaseName);

TEST_P(AttentionWeights, AgreeWithTheOracle) {
  for (const Shape& shape : {Shape{9, 3, 64}, Shape{4, 4, 96}, Shape{8, 2, 128}, Shape{8, 1, 10}}) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim);
    std::vector<std::vector<int32_t>> kept(3);
    constexpr int32_t kLengths[] = {70, 64, 65, 300, 90, 129, 63, 500, 67, 256, 257, 80};
    for (size_t i = 0; i < 3 * static_cast<size_t>(shape.n_kv_heads); ++i) kept[i % 3].push_back(kLengths[i]);
    PagedWorld world = World(*backend_, GetParam(), shape, kept);
    Random random(80);
    world.Fill(random, 0.4f);
    const std::vector<int32_t> slots = {2, 0, 1};
    const std::vector<int32_t> row_start = {0, 1, 6, 8};
    const std::vector<float> q = Queries(shape, 8);
    const size_t dim = static_cast<size_t>(shape.head_dim);
    for (const size_t n_entries : {1, 57, 59}) {  // The shortest head's first row sees 59.
      const std::vector<float> got = Run(*backend_, shape, world, slots, row_start, q, static_cast<int32_t>(n_entries));
      size_t at = 0;
      for (size_t s = 0; s < slots.size(); ++s) {
        for (int32_t r = row_start[s]; r < row_start[s + 1]; ++r) {
          for (int32_t h = 0; h < shape.n_heads; ++h) {
            const int32_t kv_head = h / (shape.n_heads / shape.n_kv_heads);
            const int32_t visible = world.length(slots[s], kLayer, kv_head) - (row_start[s + 1] - r) + 1;
            const oracle::Vector expected =
                oracle::AttentionWeights(std::span(q).subspan(static_cast<size_t>(r * shape.n_heads + h) * dim, dim),
                                         world.entries(slots[s], kLayer, kv_head), visible, double{Scale(shape)});
            for (size_t e = 0; e < n_entries; ++e, ++at) {
              // Logits stay below 16.
              ASSERT_NEAR(got[at], expected[e], Tolerance(16 * expected[e]))
                  << "row " << r << " head " << h << " entry " << e;
            }
          }
        }
      }
    }
  }
}

TEST_P(AttentionWeights, BitsDoNotDependOnOtherRowsOrThreads) {
  const Shape shape = {6, 2, 64};
  const std::vector<std::vector<int32_t>> kept = {{700, 90}, {333, 1000}};
  const auto run = [&](Backend& backend, const std::vector<int32_t>& slots, const std::vector<int32_t>& row_start,
                       std::span<const float> q, int32_t n_entries) {
    PagedWorld world = World(backend, GetParam(), shape, kept);
    Random random(82);
    world.Fill(random, 0.4f);
    return Run(backend, shape, world, slots, row_start, q, n_entries);
  };
  const std::vector<float> q = Queries(shape, 5);
  const size_t row = static_cast<size_t>(shape.n_heads * shape.head_dim);
  const std::vector<float> together = run(*backend_, {1, 0}, {0, 1, 5}, q, 80);
  const std::span<const float> all(together);
  const size_t out_row = static_cast<size_t>(shape.n_heads) * 80;
  EXPECT_TRUE(SameBits(run(*backend_, {1}, {0, 1}, std::span(q).subspan(0, row), 80), all.subspan(0, out_row)));
  EXPECT_TRUE(SameBits(run(*backend_, {0}, {0, 4}, std::span(q).subspan(row), 80), all.subspan(out_row)));
  const auto single = GetParam().backend.make(1);
  ASSERT_TRUE(single.ok());
  EXPECT_TRUE(SameBits(run(**single, {1, 0}, {0, 1, 5}, q, 80), together));
}

}  // namespace
}  // namespace lukv::conformance
