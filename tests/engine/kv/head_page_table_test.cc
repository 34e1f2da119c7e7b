#include "engine/kv/head_page_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace lukv {
namespace {

constexpr KvGeometry kSmall{.n_layers = 2, .n_kv_heads = 2, .page_tokens = 4};

TEST(HeadPageTable, CountsPagesPerHead) {
  HeadPageTable table(kSmall, 1, 64);
  const std::vector<int32_t> kept = {1, 4, 5, 0};
  EXPECT_EQ(table.PagesFor(kept, 0), 1u + 1 + 2 + 0);
  EXPECT_EQ(table.PagesFor(kept, 4), 2u + 2 + 3 + 1);
}

TEST(HeadPageTable, LengthsDifferPerHeadAndGrowTogether) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 2, 64);
  const std::vector<int32_t> kept = {1, 4, 5, 9};
  table.Assign(Slot{1}, kept, 10, *pool.Take(table.PagesFor(kept, 0), PageOwner::kSequence));
  EXPECT_EQ(table.Length(Slot{1}, 1, 0), CacheLength{5});

  // Only the head that sits on a page border needs a page for one more entry.
  EXPECT_EQ(table.PagesToAppend(Slot{1}, 1), 1u);
  table.Append(Slot{1}, 1, *pool.Take(1, PageOwner::kSequence));
  EXPECT_EQ(table.Length(Slot{1}, 0, 0), CacheLength{2});
  EXPECT_EQ(table.Length(Slot{1}, 0, 1), CacheLength{5});
  EXPECT_EQ(table.Pages(Slot{1}, 0, 1).size(), 2u);
  EXPECT_EQ(table.Length(Slot{1}, 1, 1), CacheLength{10});
  EXPECT_EQ(table.pages_held(Slot{1}), pool.used());

  table.Release(Slot{1});
  EXPECT_EQ(pool.used(), 0u);
}

TEST(HeadPageTable, ViewIsWhatTheAccessorsSay) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 3, 64);
  const std::vector<uint32_t> fresh(table.Lengths().begin(), table.Lengths().end());
  const std::vector<int32_t> kept = {3, 8, 2, 7};
  table.Assign(Slot{2}, kept, 5, *pool.Take(table.PagesFor(kept, 0), PageOwner::kSequence));
  table.Append(Slot{2}, 2, *pool.Take(table.PagesToAppend(Slot{2}, 2), PageOwner::kSequence));
  // A copy that is kept up to date by the changes alone.
  std::vector<uint32_t> words(table.n_words(), 0xffffffffu);
  std::copy(fresh.begin(), fresh.end(), words.begin());
  for (const ScatterUpdate& update : table.Changes()) words[update.index] = update.value;
  const PageTableView view = table.View(words.data());
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (int32_t head = 0; head < 2; ++head) {
      const int32_t i = (2 * 2 + layer) * 2 + head;
      EXPECT_EQ(CacheLength{view.kept[i] + view.generated[2]}, table.Length(Slot{2}, layer, head));
      const auto pages = table.Pages(Slot{2}, layer, head);
      EXPECT_TRUE(std::equal(pages.begin(), pages.end(), view.arena + view.offset[i]));
    }
  }
  table.Release(Slot{2});
}

TEST(HeadPageTable, TruncatesToWhatWasAppendedBefore) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 2, 64);
  const std::vector<int32_t> kept = {1, 4, 5, 9};
  table.Assign(Slot{1}, kept, 20, *pool.Take(table.PagesFor(kept, 0), PageOwner::kSequence));
  table.Append(Slot{1}, 2, *pool.Take(table.PagesToAppend(Slot{1}, 2), PageOwner::kSequence));
  const auto pages = [&](int32_t layer, int32_t head) {
    const auto span = table.Pages(Slot{1}, layer, head);
    return std::vector<PageId>(span.begin(), span.end());
  };
  const uint32_t held = pool.used();
  const std::vector<PageId> first = pages(0, 0), last = pages(1, 1);
  // Other slots' pages in between, so that the lease is not in one piece.
  table.Assign(Slot{0}, kept, 0, *pool.Take(table.PagesFor(kept, 0), PageOwner::kSequence));
  table.Append(Slot{1}, 15, *pool.Take(table.PagesToAppend(Slot{1}, 15), PageOwner::kSequence));
  table.Release(Slot{0});

  table.Truncate(Slot{1}, 2);
  EXPECT_EQ(pool.used(), held);
  EXPECT_EQ(table.pages_held(Slot{1}), held);
  EXPECT_EQ(pages(0, 0), first);
  EXPECT_EQ(pages(1, 1), last);
  EXPECT_EQ(table.Length(Slot{1}, 1, 1), CacheLength{11});
  // The room is there again.
  table.Append(Slot{1}, 18, *pool.Take(table.PagesToAppend(Slot{1}, 18), PageOwner::kSequence));
  EXPECT_EQ(table.Length(Slot{1}, 1, 1), CacheLength{29});
  table.Truncate(Slot{1}, 20);
  table.Truncate(Slot{1}, 0);
  EXPECT_EQ(pool.used(), table.PagesFor(kept, 0));
  table.Release(Slot{1});
}

// A layer's entries may become known only when its turn comes; what was leased for more goes back at the end.
TEST(HeadPageTable, TakesLayersOneByOneAndReturnsWhatIsSpare) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 2, 64);
  table.Open(Slot{0}, 3, 6, *pool.Take(12, PageOwner::kSequence));
  EXPECT_EQ(table.generated(Slot{0}), 3);
  table.SetKept(Slot{0}, 0, std::vector<int32_t>{5, 1});
  EXPECT_EQ(table.Length(Slot{0}, 0, 0), CacheLength{8});
  EXPECT_EQ(table.Length(Slot{0}, 0, 1), CacheLength{4});
  const auto first = table.Pages(Slot{0}, 0, 0);
  const std::vector<PageId> pages(first.begin(), first.end());
  table.SetKept(Slot{0}, 1, std::vector<int32_t>{0, 6});
  EXPECT_EQ(table.Kept(Slot{0}, 1)[1], 6);
  EXPECT_EQ(pool.used(), 12u);
  table.ReturnSpare(Slot{0});
  EXPECT_EQ(pool.used(), 2u + 1 + 1 + 3);  // 8, 4, 3 and 9 entries.
  EXPECT_EQ(table.pages_held(Slot{0}), 7u);
  EXPECT_TRUE(std::equal(pages.begin(), pages.end(), table.Pages(Slot{0}, 0, 0).begin()));
  table.Append(Slot{0}, 6, *pool.Take(table.PagesToAppend(Slot{0}, 6), PageOwner::kSequence));
  EXPECT_EQ(table.Length(Slot{0}, 1, 0), CacheLength{9});
  table.Release(Slot{0});
  EXPECT_EQ(pool.used(), 0u);
}

TEST(HeadPageTableDeathTest, LayersComeInOrderAndWithinTheirLease) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 1, 64);
  table.Open(Slot{0}, 0, 4, *pool.Take(3, PageOwner::kSequence));
  const std::vector<int32_t> one = {1, 1};
  EXPECT_DEATH(table.SetKept(Slot{0}, 1, one), "check failed");
  EXPECT_DEATH(table.ReturnSpare(Slot{0}), "check failed");
  EXPECT_DEATH(table.Append(Slot{0}, 1, PageLease()), "check failed");
  table.SetKept(Slot{0}, 0, one);
  EXPECT_DEATH(table.SetKept(Slot{0}, 0, one), "check failed");
  EXPECT_DEATH(table.SetKept(Slot{0}, 1, one), "check failed");  // The lease has one page left.
  table.Release(Slot{0});
}

TEST(HeadPageTableDeathTest, TruncateOnlyShortens) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 2, 64);
  const std::vector<int32_t> kept = {1, 1, 1, 1};
  table.Assign(Slot{1}, kept, 2, *pool.Take(4, PageOwner::kSequence));
  table.Append(Slot{1}, 1, *pool.Take(table.PagesToAppend(Slot{1}, 1), PageOwner::kSequence));
  EXPECT_DEATH(table.Truncate(Slot{1}, 2), "check failed");
  EXPECT_DEATH(table.Truncate(Slot{0}, 0), "check failed");
  table.Release(Slot{1});
}

TEST(HeadPageTableDeathTest, CatchesGrowthBeyondItsRoom) {
  PagePool pool(64);
  HeadPageTable table(kSmall, 1, 64);
  const std::vector<int32_t> kept = {1, 1, 1, 1};
  table.Assign(Slot{0}, kept, 2, *pool.Take(4, PageOwner::kSequence));
  EXPECT_DEATH(table.Append(Slot{0}, 3, PageLease()), "check failed");
  table.Release(Slot{0});
}

// Random assign / append / truncate / release. No page may be in two lists, and lists must keep their earlier pages.
TEST(HeadPageTable, NeverSharesOrMovesPagesUnderRandomUse) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    const KvGeometry geometry{.n_layers = 1 + static_cast<int32_t>(random() % 3),
                              .n_kv_heads = 1 + static_cast<int32_t>(random() % 3),
                              .page_tokens = 1 + static_cast<int32_t>(random() % 5)};
    constexpr int32_t kSlots = 4;
    constexpr int32_t kMax = 40;
    PagePool pool(600);
    HeadPageTable table(geometry, kSlots, kMax);
    std::map<int32_t, int32_t> room_left, appended;
    for (int step = 0; step < 300; ++step) {
      const int32_t s = static_cast<int32_t>(random() % kSlots);
      const Slot slot{s};
      if (!table.in_use(slot)) {
        const int32_t room = static_cast<int32_t>(random() % 20);
        std::vector<int32_t> kept(static_cast<size_t>(geometry.heads()));
        for (int32_t& k : kept) k = static_cast<int32_t>(random() % static_cast<uint32_t>(kMax - room + 1));
        auto lease = pool.Take(table.PagesFor(kept, 0), PageOwner::kSequence);
        if (!lease.ok()) continue;
        table.Assign(slot, kept, room, *std::move(lease));
        room_left[s] = room;
        appended[s] = 0;
      } else if (random() % 4 == 0) {
        table.Release(slot);
      } else if (random() % 4 == 0) {
        const int32_t left = appended[s] == 0 ? 0 : static_cast<int32_t>(random() % static_cast<uint32_t>(appended[s]));
        table.Truncate(slot, left);
        room_left[s] += appended[s] - left;
        appended[s] = left;
      } else {
        const int32_t n = std::min(room_left[s], static_cast<int32_t>(random() % 6));
        auto lease = pool.Take(table.PagesToAppend(slot, n), PageOwner::kSequence);
        if (!lease.ok()) continue;
        const auto before = table.Pages(slot, 0, 0);
        const std::vector<PageId> copy(before.begin(), before.end());
        table.Append(slot, n, *std::move(lease));
        room_left[s] -= n;
        appended[s] += n;
        ASSERT_TRUE(std::equal(copy.begin(), copy.end(), table.Pages(slot, 0, 0).begin()));
      }
      std::multiset<PageId> all;
      for (int32_t t = 0; t < kSlots; ++t) {
        if (!table.in_use(Slot{t})) continue;
        for (int32_t layer = 0; layer < geometry.n_layers; ++layer) {
          for (int32_t head = 0; head < geometry.n_kv_heads; ++head) {
            const auto pages = table.Pages(Slot{t}, layer, head);
            all.insert(pages.begin(), pages.end());
          }
        }
      }
      ASSERT_EQ(all.size(), pool.used());
      ASSERT_EQ(std::set<PageId>(all.begin(), all.end()).size(), all.size());
    }
    for (int32_t s = 0; s < kSlots; ++s) {
      if (table.in_use(Slot{s})) table.Release(Slot{s});
    }
    ASSERT_EQ(pool.used(), 0u);
  }
}

}  // namespace
}  // namespace lukv
