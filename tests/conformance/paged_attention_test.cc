#include <algorithm>
#include <cmath>

#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

struct AttentionShape {
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
};

// Rows of one sequence in a step.
struct Rows {
  int32_t slot;
  int32_t n;
};

class PagedAttention : public KvTest {
 protected:
  static constexpr int32_t kLayer = 1;
  static constexpr int32_t kRowsPerSlot = 150;  // Queries that exist for every slot.
  static constexpr double kSize = 8;

  // kept: [slots][n_kv_heads] of the layer under test.
  void Make(const AttentionShape& shape, const std::vector<std::vector<int32_t>>& kept, float k_mean = 0.4f,
            float v_mean = 0.5f) {
    shape_ = shape;
    k_mean_ = k_mean;
    v_mean_ = v_mean;
    kept_.clear();
    for (const auto& heads : kept) {
      std::vector<int32_t> both(heads.size(), 5);
      both.insert(both.end(), heads.begin(), heads.end());
      kept_.push_back(std::move(both));
    }
    Random random(60);
    q_ = random.Values(kept.size() * kRowsPerSlot * RowSize(), 0.3f);
    // Exact in bf16: a backend may multiply in it.
    for (float& x : q_) x = Rounded(2 * x, DType::kBF16);
  }

  std::unique_ptr<PagedWorld> World(Backend& backend) const {
    auto world = std::make_unique<PagedWorld>(backend,
                                              WorldShape{.n_layers = 2,
                                                         .n_kv_heads = shape_.n_kv_heads,
                                                         .head_dim = shape_.head_dim,
                                                         .page_tokens = GetParam().page_tokens,
                                                         .dtype = GetParam().dtype},
                                              kept_, 0);
    Random random(70);
    world->Fill(random, k_mean_, v_mean_);
    return world;
  }

  // Queries [first, first + n) of each sequence's slot, with `hidden` of the slot's last entries not there yet.
  std::vector<float> Run(Backend& backend, const PagedWorld& world, const std::vector<Rows>& sequences,
                         int32_t first = 0, int32_t hidden = 0) const {
    std::vector<int32_t> slots;
    std::vector<int32_t> row_start = {0};
    std::vector<float> q;
    for (const Rows& s : sequences) {
      slots.push_back(s.slot);
      row_start.push_back(row_start.back() + s.n);
      const auto begin =
          q_.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(s.slot * kRowsPerSlot + first) * RowSize());
      q.insert(q.end(), begin, begin + static_cast<ptrdiff_t>(static_cast<size_t>(s.n) * RowSize()));
    }
    const DeviceArray<int32_t> device_slots(backend, slots);
    const DeviceArray<int32_t> device_row_start(backend, row_start);
    const DeviceArray<int32_t> generated(backend, std::vector<int32_t>(kept_.size(), -hidden));
    PageTableView table = world.table();
    table.generated = generated.data();
    const int64_t rows = row_start.back();
    const DeviceMatrix queries(backend, rows, static_cast<int64_t>(RowSize()), q);
    const DeviceMatrix out(backend, rows, static_cast<int64_t>(RowSize()), backend.activation_dtype());
    const std::vector<std::byte> before = world.Bytes();
    const absl::Status status = backend.PagedAttention(
        {.q = queries.view(),
         .n_heads = shape_.n_heads,
         .sequences = {device_slots.data(), device_row_start.data(), static_cast<int32_t>(slots.size())},
         .table = table,
         .layer = kLayer,
         .pages = world.store(),
         .scale = Scale(),
         .out = out.view()});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(world.Bytes(), before) << "pages were written";
    return out.Get();
  }

  void ExpectOracle(const PagedWorld& world, const std::vector<Rows>& sequences, std::span<const float> got,
                    double size = kSize) const {
    const size_t dim = static_cast<size_t>(shape_.head_dim);
    size_t row = 0;
    for (const Rows& s : sequences) {
      for (int32_t j = 0; j < s.n; ++j, ++row) {
        if (j % 13 != 0 && j + 1 != s.n) continue;
        for (int32_t h = 0; h < shape_.n_heads; ++h) {
          const int32_t kv_head = h / (shape_.n_heads / shape_.n_kv_heads);
          const size_t at = static_cast<size_t>(s.slot * kRowsPerSlot + j) * RowSize() + static_cast<size_t>(h) * dim;
          const int32_t visible = world.length(s.slot, kLayer, kv_head) - s.n + j + 1;
          const oracle::Vector expected =
              oracle::Attend(std::span(q_).subspan(at, dim), world.entries(s.slot, kLayer, kv_head), visible,
                             static_cast<double>(Scale()));
          for (size_t d = 0; d < dim; ++d) {
            ASSERT_NEAR(got[row * RowSize() + static_cast<size_t>(h) * dim + d], expected[d], AttentionTolerance(size))
                << "slot " << s.slot << " row " << j << " head " << h << " dim " << d;
          }
        }
      }
    }
  }

  size_t RowSize() const { return static_cast<size_t>(shape_.n_heads) * static_cast<size_t>(shape_.head_dim); }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  AttentionShape shape_ = {};
  float k_mean_ = 0;
  float v_mean_ = 0;
  std::vector<std::vector<int32_t>> kept_;
  std::vector<float> q_;
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PagedAttention);
INSTANTIATE_TEST_SUITE_P(Backends, PagedAttention, testing::ValuesIn(PagedCases()), KvCaseName);

TEST_P(PagedAttention, DecodesAtAnyHeadShape) {
  constexpr AttentionShape kShapes[] = {{9, 3, 64}, {8, 1, 64}, {4, 4, 96}, {8, 2, 128}, {8, 1, 80},
                                        {3, 1, 24}, {4, 1, 20}, {2, 2, 10}, {1, 1, 2},   {6, 2, 256}};
  for (const AttentionShape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim);
    std::vector<std::vector<int32_t>> kept(3);
    constexpr int32_t kLengths[] = {1, 64, 65, 300, 7, 129, 2, 500, 63, 256, 257, 31};
    for (size_t i = 0; i < 3 * static_cast<size_t>(shape.n_kv_heads); ++i) kept[i % 3].push_back(kLengths[i]);
    Make(shape, kept);
    const auto world = World(*backend_);
    const std::vector<Rows> sequences = {{2, 1}, {0, 1}, {1, 1}};
    ExpectOracle(*world, sequences, Run(*backend_, *world, sequences));
  }
}

TEST_P(PagedAttention, DecodesHeadsOfWildlyDifferentLengths) {
  Make({9, 3, 64}, {{3000, 1, 64}, {2, 2047, 130}});
  const auto world = World(*backend_);
  const std::vector<Rows> sequences = {{0, 1}, {1, 1}};
  ExpectOracle(*world, sequences, Run(*backend_, *world, sequences));
}

TEST_P(PagedAttention, AppendsManyRows) {
  Make({6, 2, 64}, {{300, 150}, {70, 1600}, {90, 65}});
  const auto world = World(*backend_);
  // The whole of a head's entries (it kept nothing of the context), many rows, few, and none.
  for (const std::vector<Rows>& sequences : {std::vector<Rows>{{0, 150}, {1, 1}, {2, 5}}, std::vector<Rows>{{1, 70}},
                                             std::vector<Rows>{{2, 2}, {0, 0}, {1, 30}}}) {
    ExpectOracle(*world, sequences, Run(*backend_, *world, sequences));
  }
}

TEST_P(PagedAttention, ManyShortSequencesBesideALongOne) {
  std::vector<std::vector<int32_t>> kept;
  std::vector<Rows> sequences;
  for (int32_t i = 0; i < 24; ++i) {
    kept.push_back({1 + i * 5 % 9, 2 + i});
    sequences.push_back({23 - i, i % 5 == 0 ? 0 : 1});  // A step may have a sequence without rows.
  }
  kept[11] = {790, 3};
  Make({6, 2, 64}, kept);
  const auto world = World(*backend_);
  ExpectOracle(*world, sequences, Run(*backend_, *world, sequences));
}

TEST_P(PagedAttention, EntriesOfALargeCommonMean) {
  for (const AttentionShape& shape : {AttentionShape{3, 1, 128}, AttentionShape{2, 1, 20}}) {
    Make(shape, {{300}, {70}}, 6, 60);
    const auto world = World(*backend_);
    const std::vector<Rows> sequences = {{0, 1}, {1, 30}};
    ExpectOracle(*world, sequences, Run(*backend_, *world, sequences), 64);
  }
}

// A row that is appended with others gets what it would have got alone, also where it is the first one to see more than
// whole chunks of work.
TEST_P(PagedAttention, AppendedRowsHaveTheBitsOfDecodedOnes) {
  for (const AttentionShape& shape : {AttentionShape{8, 2, 128}, AttentionShape{5, 1, 96}, AttentionShape{2, 1, 256},
                                      AttentionShape{4, 2, 20}, AttentionShape{24, 1, 64}}) {
    SCOPED_TRACE(testing::Message() << shape.n_heads << "/" << shape.n_kv_heads << " heads of " << shape.head_dim);
    std::vector<std::vector<int32_t>> kept = {{258, 514}, {257, 130}};
    for (auto& heads : kept) heads.resize(static_cast<size_t>(shape.n_kv_heads));
    Make(shape, kept);
    const auto world = World(*backend_);
    const std::vector<Rows> sequences = {{1, 3}, {0, 5}};
    const std::vector<float> together = Run(*backend_, *world, sequences);
    ExpectOracle(*world, sequences, together);
    const std::span<const float> all(together);
    for (const int32_t row : {2, 3}) {  // See 256 and 512 entries, and one more.
      EXPECT_TRUE(SameBits(Run(*backend_, *world, {{0, 1}}, row, 4 - row),
                           all.subspan(static_cast<size_t>(3 + row) * RowSize(), RowSize())))
          << "row " << row;
    }
  }
}

TEST_P(PagedAttention, BitsDoNotDependOnOtherRowsSequencesOrThreads) {
  Make({9, 3, 64}, {{700, 90, 257}, {33, 1000, 64}, {129, 65, 512}});
  const auto world = World(*backend_);
  const std::vector<float> together = Run(*backend_, *world, {{1, 1}, {0, 33}, {2, 2}});
  const size_t size = RowSize();
  // Each sequence on its own.
  const std::span<const float> all(together);
  EXPECT_TRUE(SameBits(Run(*backend_, *world, {{1, 1}}), all.subspan(0, size)));
  EXPECT_TRUE(SameBits(Run(*backend_, *world, {{0, 33}}), all.subspan(size, 33 * size)));
  EXPECT_TRUE(SameBits(Run(*backend_, *world, {{2, 2}}), all.subspan(34 * size, 2 * size)));
  // One row at a time, as decode would have done it.
  for (const int32_t row : {0, 1, 17, 31, 32}) {
    EXPECT_TRUE(SameBits(Run(*backend_, *world, {{0, 1}}, row, 32 - row),
                         all.subspan(static_cast<size_t>(1 + row) * size, size)))
        << "row " << row;
  }
  const auto single = GetParam().backend.make(1);
  ASSERT_TRUE(single.ok());
  const auto other_world = World(**single);
  EXPECT_TRUE(SameBits(Run(**single, *other_world, {{1, 1}, {0, 33}, {2, 2}}), together));
}

// Heads so long, or so many of them, that a device changes how it shares out the work.
class LongPagedAttention : public PagedAttention {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LongPagedAttention);
INSTANTIATE_TEST_SUITE_P(Backends, LongPagedAttention, testing::ValuesIn(StagingCases()), KvCaseName);

TEST_P(LongPagedAttention, AppendedRowsHaveTheBitsOfDecodedOnes) {
  Make({2, 1, GetParam().dtype == DType::kF32 ? 8 : 64}, {{32770}});
  const auto world = World(*backend_);
  const std::vector<float> together = Run(*backend_, *world, {{0, 4}});
  ExpectOracle(*world, {{0, 4}}, together);
  for (const int32_t row : {1, 2}) {  // The last that sees 32768, and the first that sees more.
    EXPECT_TRUE(SameBits(Run(*backend_, *world, {{0, 1}}, row, 3 - row),
                         std::span(together).subspan(static_cast<size_t>(row) * RowSize(), RowSize())))
        << "row " << row;
  }
}

TEST_P(LongPagedAttention, ManyRowsOfManyHeads) {
  Make({70, 1, 64}, {{33000}, {100}});
  const auto world = World(*backend_);
  const std::vector<Rows> sequences = {{1, 75}};
  const std::vector<float> together = Run(*backend_, *world, sequences);
  ExpectOracle(*world, sequences, together);
  EXPECT_TRUE(SameBits(Run(*backend_, *world, {{1, 1}}, 31, 43),
                       std::span(together).subspan(static_cast<size_t>(31) * RowSize(), RowSize())));
}

}  // namespace
}  // namespace lukv::conformance
