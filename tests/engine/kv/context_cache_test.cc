#include "engine/kv/context_cache.h"

#include <gtest/gtest.h>

#include <memory>

#include "engine/kv/head_page_table.h"

namespace lukv {
namespace {

constexpr KvGeometry kGeometry = {.n_layers = 1, .n_kv_heads = 2, .page_tokens = 4};

class Cache : public testing::Test {
 protected:
  // Shared pages of 2 heads with so many entries.
  std::shared_ptr<const SharedPages> Pages(int32_t entries) {
    const std::vector<int32_t> kept(2, entries);
    table_.Assign(Slot{0}, kept, 0, *pool_.Take(table_.PagesFor(kept, 0), PageOwner::kSequence));
    auto shared = table_.Share(Slot{0}, 0);
    table_.Release(Slot{0});
    return shared;
  }
  static ContextKey Key(TokenId token, const std::string& tenant = "", const std::string& policy = "full") {
    return {.tenant = tenant, .policy = policy, .tokens = {1, token}};
  }

  PagePool pool_{100};
  HeadPageTable table_{kGeometry, 1, 100};
  ContextCache cache_;
  const absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(Cache, FindsByTenantPolicyAndTokens) {
  cache_.PutContext(Key(2, "a", "p"), Pages(4), absl::InfinitePast());
  EXPECT_NE(cache_.FindContext(Key(2, "a", "p")), nullptr);
  EXPECT_EQ(cache_.FindContext(Key(3, "a", "p")), nullptr);
  EXPECT_EQ(cache_.FindContext(Key(2, "b", "p")), nullptr);
  EXPECT_EQ(cache_.FindContext(Key(2, "a", "q")), nullptr);
  EXPECT_EQ(cache_.FindConversation("a", "p"), nullptr);
  EXPECT_TRUE(cache_.DropContext(Key(2, "a", "p")));
  EXPECT_FALSE(cache_.DropContext(Key(2, "a", "p")));
  EXPECT_EQ(pool_.used(), 0u);
}

TEST_F(Cache, DropsTheOneThatWasUsedTheLongestTimeAgo) {
  for (TokenId token = 0; token < 3; ++token) cache_.PutContext(Key(token), Pages(4), absl::InfinitePast());
  const auto in_use = cache_.FindContext(Key(1));
  cache_.FindContext(Key(0));
  EXPECT_EQ(cache_.CountPages().idle, 4u);
  EXPECT_EQ(cache_.CountPages().reclaimable, 4u);
  EXPECT_TRUE(cache_.DropOldest());
  EXPECT_FALSE(cache_.HasContext(Key(2)));
  EXPECT_TRUE(cache_.DropOldest());
  EXPECT_FALSE(cache_.HasContext(Key(0)));
  EXPECT_FALSE(cache_.DropOldest());  // Somebody uses it.
  EXPECT_EQ(pool_.used(), 2u);
  cache_.Clear();
}

TEST_F(Cache, PagesThatOnlyKeptOnesGoOnFromGiveWayToo) {
  // Four entries in each head, and four more behind them: two pages each of their own.
  const auto going_on = [&](const std::shared_ptr<const SharedPages>& base) {
    table_.OpenShared(Slot{0}, base, 0, 4, PageLease());
    table_.Append(Slot{0}, 4, *pool_.Take(table_.PagesToAppend(Slot{0}, 4), PageOwner::kSequence));
    auto shared = table_.Share(Slot{0}, 4);
    table_.Release(Slot{0});
    return shared;
  };
  cache_.PutConversation("", "alone", {.pages = going_on(Pages(4))});
  EXPECT_EQ(cache_.CountPages().reclaimable, 4u);
  auto base = Pages(4);
  cache_.PutConversation("", "a", {.pages = going_on(base)});
  cache_.PutConversation("", "b", {.pages = going_on(base)});
  EXPECT_EQ(cache_.CountPages().reclaimable, 8u);  // Somebody holds the base.
  cache_.PutContext(Key(0), base, now_);
  base.reset();
  EXPECT_EQ(cache_.CountPages().reclaimable, 8u);  // Pinned.
  EXPECT_EQ(cache_.CountPages().idle, 10u);
  EXPECT_TRUE(cache_.DropContext(Key(0)));
  EXPECT_EQ(cache_.CountPages().reclaimable, 10u);
  while (cache_.DropOldest()) continue;
  EXPECT_EQ(pool_.used(), 0u);
}

TEST_F(Cache, PinnedOnesStayUntilThen) {
  cache_.PutContext(Key(0), Pages(4), now_);
  cache_.PutContext(Key(1), Pages(8), absl::InfinitePast());
  cache_.PutContext(Key(0), Pages(4), now_ + absl::Seconds(5));  // Longer; the first pages stay.
  EXPECT_EQ(cache_.CountPages().pinned, 2u);
  EXPECT_EQ(cache_.CountPages().idle, 6u);
  EXPECT_EQ(cache_.CountPages().reclaimable, 4u);
  EXPECT_EQ(pool_.used(), 6u);
  EXPECT_TRUE(cache_.DropOldest());
  EXPECT_FALSE(cache_.DropOldest());
  EXPECT_EQ(cache_.next_expiry(), now_ + absl::Seconds(5));
  cache_.Expire(now_ + absl::Seconds(4));
  EXPECT_TRUE(cache_.HasContext(Key(0)));
  cache_.Expire(now_ + absl::Seconds(5));
  EXPECT_EQ(cache_.size(), 0);
  EXPECT_EQ(cache_.next_expiry(), absl::InfiniteFuture());
}

TEST_F(Cache, AConversationHasOneEnd) {
  cache_.PutConversation("a", "c", {.tokens = {1, 2}, .context_tokens = 2, .pages = Pages(4)});
  EXPECT_EQ(cache_.FindConversation("b", "c"), nullptr);
  cache_.PutConversation("a", "c", {.tokens = {1, 2, 3}, .context_tokens = 2, .pages = Pages(8)});
  ASSERT_NE(cache_.FindConversation("a", "c"), nullptr);
  EXPECT_EQ(cache_.FindConversation("a", "c")->tokens.size(), 3u);
  EXPECT_EQ(cache_.size(), 1);
  EXPECT_EQ(pool_.used(), 4u);
  EXPECT_TRUE(cache_.DropOldest());
  EXPECT_EQ(pool_.used(), 0u);
}

}  // namespace
}  // namespace lukv
