#include <algorithm>

#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

class Compact : public KvTest {
 protected:
  // A world with one layer-1 slot to fill, staging with known rows, and the expected bytes after compaction.
  void Check(int32_t head_dim, const std::vector<int32_t>& kept, bool all) {
    const int32_t n_kv_heads = static_cast<int32_t>(kept.size());
    const WorldShape shape = {.n_layers = 2,
                              .n_kv_heads = n_kv_heads,
                              .head_dim = head_dim,
                              .page_tokens = GetParam().page_tokens,
                              .dtype = GetParam().dtype};
    // Layer 0 keeps something else, so that a mix-up of layers shows.
    std::vector<int32_t> both(static_cast<size_t>(n_kv_heads), 3);
    both.insert(both.end(), kept.begin(), kept.end());
    const PagedWorld world(*backend_, shape, {both, both, both}, 4);
    Random random(40);
    constexpr int32_t kContextRow = 7;
    const int32_t tokens = *std::max_element(kept.begin(), kept.end()) + (all ? 0 : 50);
    Staging staging(*backend_, n_kv_heads, kContextRow + tokens + 1, head_dim, GetParam().dtype);
    const size_t dim = static_cast<size_t>(head_dim);
    for (int32_t h = 0; h < n_kv_heads; ++h) {
      staging.Set(h, kContextRow,
                  {.head_dim = head_dim,
                   .k = random.Values(static_cast<size_t>(tokens) * dim),
                   .v = random.Values(static_cast<size_t>(tokens) * dim)});
    }
    // Each head keeps its own ascending choice.
    std::vector<int32_t> rows;
    std::vector<int32_t> offset = {0};
    for (const int32_t n : kept) {
      for (int32_t t = 0; t < tokens && static_cast<int32_t>(rows.size()) - offset.back() < n; ++t) {
        const int32_t missing = n - (static_cast<int32_t>(rows.size()) - offset.back());
        if (all || tokens - t <= missing || random.Below(3) > 0) rows.push_back(t);
      }
      offset.push_back(static_cast<int32_t>(rows.size()));
    }
    rows.push_back(-1);  // Never read; an array cannot be empty.
    const DeviceArray<int32_t> device_rows(*backend_, rows);
    const DeviceArray<int32_t> device_offset(*backend_, offset);

    std::vector<std::byte> expected = world.Bytes();
    for (int32_t h = 0; h < n_kv_heads; ++h) {
      const oracle::HeadEntries from = staging.Get(h, kContextRow, tokens);
      for (int32_t j = 0; j < kept[static_cast<size_t>(h)]; ++j) {
        const size_t row = static_cast<size_t>(rows[static_cast<size_t>(offset[static_cast<size_t>(h)] + j)]);
        Encode({&from.k[row * dim], dim}, GetParam().dtype, &expected[world.KOffset(1, 1, h, j)]);
        Encode({&from.v[row * dim], dim}, GetParam().dtype, &expected[world.VOffset(1, 1, h, j)]);
      }
    }
    ASSERT_TRUE(backend_
                    ->Compact({.staging = staging.view(),
                               .context_row = kContextRow,
                               .kept_rows = all ? nullptr : device_rows.data(),
                               .kept_offset = all ? nullptr : device_offset.data(),
                               .slot = 1,
                               .layer = 1,
                               .table = world.table(),
                               .pages = world.store()})
                    .ok());
    EXPECT_EQ(world.Bytes(), expected);
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Compact);
INSTANTIATE_TEST_SUITE_P(Backends, Compact, testing::ValuesIn(PagedCases()), KvCaseName);

TEST_P(Compact, GathersEachHeadsKeptRows) {
  Check(64, {1, 64, 65, 700}, false);
  Check(96, {130}, false);
  Check(10, {2, 0, 63}, false);
}

TEST_P(Compact, KeepsAllWithoutALoss) {
  Check(64, {200, 200, 200}, true);
  Check(24, {64}, true);
}

class CopyPages : public KvTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CopyPages);
INSTANTIATE_TEST_SUITE_P(Backends, CopyPages, testing::ValuesIn(PagedCases()), KvCaseName);

TEST_P(CopyPages, CopiesWholePagesAndNothingElse) {
  for (const int32_t head_dim : {64, 10}) {
    const WorldShape shape = {.n_layers = 1,
                              .n_kv_heads = 2,
                              .head_dim = head_dim,
                              .page_tokens = GetParam().page_tokens,
                              .dtype = GetParam().dtype};
    const PagedWorld world(*backend_, shape, {{130, 70}, {90, 3}}, 4);
    const PageStoreView store = world.store();
    std::vector<std::byte> expected = world.Bytes();
    const size_t page_bytes = expected.size() / store.n_pages;
    // From the first pages to every second of the last, in no order.
    std::vector<PageCopy> copies;
    for (uint32_t i = 0; i < store.n_pages / 3; ++i) {
      copies.push_back({.from = (i * 7) % (store.n_pages / 3), .to = store.n_pages - 1 - 2 * i});
      std::copy_n(&expected[copies.back().from * page_bytes], page_bytes, &expected[copies.back().to * page_bytes]);
    }
    ASSERT_TRUE(
        backend_->CopyPages({.pages = store, .copies = copies.data(), .n_copies = static_cast<int64_t>(copies.size())})
            .ok());
    EXPECT_EQ(world.Bytes(), expected);
  }
}

}  // namespace
}  // namespace lukv::conformance
