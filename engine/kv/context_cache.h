// Contexts whose compressed pages are kept for later requests, and ends of conversations.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "engine/kv/shared_pages.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

class EvictionPlan;

// What a kept context is found by: only a request of the same tenant with exactly these tokens and this policy gets it.
struct ContextKey {
  std::string tenant;
  std::string policy;  // PolicyName; "full" where nothing was evicted.
  std::vector<TokenId> tokens;

  bool operator==(const ContextKey&) const = default;
};

// Where a conversation stands.
struct Turn {
  std::vector<TokenId> tokens;  // Of its prompt; all have entries.
  // The first so many were compressed, by this plan (null: kept whole); those behind them are kept whole.
  int32_t context_tokens = 0;
  std::shared_ptr<const EvictionPlan> plan;
  std::shared_ptr<const SharedPages> pages;
};

// Not thread-safe: belongs to the engine thread. Entries go when room is needed, the one that was used the longest time
// ago first. Those that are pinned stay until then, and are gone when their time is over.
class ContextCache {
 public:
  // Null: there is none. Counts as a use.
  std::shared_ptr<const SharedPages> FindContext(const ContextKey& key);
  bool HasContext(const ContextKey& key) const { return Find(true, key) != entries_.end(); }
  // One that is there already stays; its pin is made longer if need be.
  void PutContext(const ContextKey& key, std::shared_ptr<const SharedPages> pages, absl::Time pinned_until);
  bool DropContext(const ContextKey& key);

  // The tenant's conversation of that id, or null; valid until the next change. Counts as a use.
  const Turn* FindConversation(const std::string& tenant, const std::string& id);
  // In place of what was there.
  void PutConversation(const std::string& tenant, const std::string& id, Turn turn);

  // Drops what was pinned until `now` or before.
  void Expire(absl::Time now);
  absl::Time next_expiry() const;  // InfiniteFuture: nothing is pinned.
  // Drops the unpinned entry that was used the longest time ago of those whose pages nobody else holds. False: none.
  bool DropOldest();
  void Clear();

  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  // Pages that nobody else holds: all, and those that DropOldest would free in the end; with those that kept pages go
  // on from.
  struct Pages {
    uint32_t idle = 0;
    uint32_t reclaimable = 0;
    uint32_t pinned = 0;  // Of pinned entries, in use or not.
  };
  Pages CountPages() const;

 private:
  struct Entry {
    bool is_context = true;
    ContextKey key;  // Of a conversation: tenant, and its id as the policy.
    Turn turn;       // Of a context: pages alone.
    absl::Time pinned_until = absl::InfinitePast();

    bool pinned() const { return pinned_until > absl::InfinitePast(); }
    bool idle() const { return turn.pages.use_count() == 1; }
  };
  using Entries = std::list<Entry>;  // The one used last is the last.

  // Pages that come free if the entries go, pinned ones or not.
  uint32_t FreedWithout(bool pinned) const;
  static uint64_t Hash(bool is_context, const ContextKey& key);
  Entries::const_iterator Find(bool is_context, const ContextKey& key) const;
  Entries::iterator Find(bool is_context, const ContextKey& key);
  Entries::iterator Add(Entry entry);
  void Drop(Entries::iterator entry);
  void Touch(Entries::iterator entry) { entries_.splice(entries_.end(), entries_, entry); }

  Entries entries_;
  std::unordered_multimap<uint64_t, Entries::iterator> by_hash_;
};

}  // namespace lukv
