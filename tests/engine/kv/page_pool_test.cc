#include "engine/kv/page_pool.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>
#include <vector>

namespace lukv {
namespace {

TEST(PagePool, HandsOutEachPageOnce) {
  PagePool pool(5);
  PageLease a = *pool.Take(2, PageOwner::kSequence);
  PageLease b = *pool.Take(3, PageOwner::kContext);
  std::set<PageId> seen(a.pages().begin(), a.pages().end());
  seen.insert(b.pages().begin(), b.pages().end());
  EXPECT_EQ(seen, (std::set<PageId>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.free(), 0u);
  EXPECT_EQ(pool.used_by(PageOwner::kSequence), 2u);
  EXPECT_EQ(pool.used_by(PageOwner::kContext), 3u);
}

TEST(PagePool, RefusesWithTheSumsAndTakesNothing) {
  PagePool pool(4);
  PageLease held = *pool.Take(3, PageOwner::kSequence);
  const auto refused = pool.Take(2, PageOwner::kSequence);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.status().message(), "2 KV pages asked for, 1 of 4 are free");
  EXPECT_EQ(pool.free(), 1u);
}

TEST(PagePool, ReusesTheWarmestPageFirst) {
  PagePool pool(8);
  PageId page = 0;
  {
    PageLease lease = *pool.Take(1, PageOwner::kSequence);
    page = lease.pages()[0];
  }
  EXPECT_EQ((*pool.Take(1, PageOwner::kSequence)).pages()[0], page);
}

TEST(PageLease, MovingAndAbsorbingKeepsThePagesHeldOnce) {
  PagePool pool(6);
  PageLease a = *pool.Take(2, PageOwner::kSequence);
  PageLease b = std::move(a);
  EXPECT_EQ(pool.used(), 2u);
  b.Absorb(*pool.Take(3, PageOwner::kSequence));
  EXPECT_EQ(b.pages().size(), 5u);
  EXPECT_EQ(pool.used(), 5u);
  b = PageLease();
  EXPECT_EQ(pool.used(), 0u);
}

TEST(PageLease, GivesPartOfItsPagesBack) {
  PagePool pool(6);
  PageLease lease = *pool.Take(5, PageOwner::kContext);
  const std::vector<PageId> held(lease.pages().begin(), lease.pages().end());
  lease.GiveBack({});
  lease.GiveBack({held[3], held[0]});
  EXPECT_EQ(std::vector<PageId>(lease.pages().begin(), lease.pages().end()),
            (std::vector<PageId>{held[1], held[2], held[4]}));
  EXPECT_EQ(pool.used_by(PageOwner::kContext), 3u);
  const PageLease other = *pool.Take(3, PageOwner::kSequence);
  lease.GiveBack({held[1], held[2], held[4]});
  EXPECT_EQ(pool.used(), 3u);
}

TEST(PageLeaseDeathTest, GivesBackOnlyWhatItHolds) {
  PagePool pool(6);
  PageLease lease = *pool.Take(2, PageOwner::kSequence);
  const PageLease other = *pool.Take(2, PageOwner::kSequence);
  const PageId mine = lease.pages()[0];
  EXPECT_DEATH(lease.GiveBack({mine, other.pages()[0]}), "check failed");
  EXPECT_DEATH(lease.GiveBack({mine, mine}), "check failed");
}

TEST(PagePoolDeathTest, ALeakEndsTheProcess) {
  EXPECT_DEATH(
      {
        auto* lease = new PageLease;
        PagePool pool(1);
        *lease = *pool.Take(1, PageOwner::kSequence);
      },
      "check failed");
}

// Random takes and returns against a plain set of who owns what.
TEST(PagePool, ConservesPagesUnderRandomUse) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    PagePool pool(64);
    std::vector<PageLease> leases;
    uint32_t held = 0;
    for (int step = 0; step < 500; ++step) {
      if (random() % 2 == 0) {
        const uint32_t n = random() % 9;
        auto lease = pool.Take(n, PageOwner::kSequence);
        ASSERT_EQ(lease.ok(), held + n <= 64);
        if (lease.ok()) {
          held += n;
          leases.push_back(*std::move(lease));
        }
      } else if (!leases.empty()) {
        const size_t victim = random() % leases.size();
        held -= static_cast<uint32_t>(leases[victim].pages().size());
        std::swap(leases[victim], leases.back());
        leases.pop_back();
      }
      ASSERT_EQ(pool.used(), held);
      std::set<PageId> all;
      for (const PageLease& lease : leases) all.insert(lease.pages().begin(), lease.pages().end());
      ASSERT_EQ(all.size(), held);
    }
  }
}

}  // namespace
}  // namespace lukv
