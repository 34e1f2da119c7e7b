#include "engine/kv/context_cache.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/hash/hash.h"

namespace lukv {

// absl's hash is seeded by process: nobody outside can make keys collide.
uint64_t ContextCache::Hash(bool is_context, const ContextKey& key) {
  return absl::HashOf(is_context, key.tenant, key.policy, key.tokens);
}

ContextCache::Entries::const_iterator ContextCache::Find(bool is_context, const ContextKey& key) const {
  const auto [begin, end] = by_hash_.equal_range(Hash(is_context, key));
  for (auto it = begin; it != end; ++it) {
    if (it->second->is_context == is_context && it->second->key == key) return it->second;
  }
  return entries_.end();
}

ContextCache::Entries::iterator ContextCache::Find(bool is_context, const ContextKey& key) {
  // Erasing nothing makes a list's iterator out of a const one.
  const auto found = std::as_const(*this).Find(is_context, key);
  return entries_.erase(found, found);
}

ContextCache::Entries::iterator ContextCache::Add(Entry entry) {
  const uint64_t hash = Hash(entry.is_context, entry.key);
  entries_.push_back(std::move(entry));
  const auto added = std::prev(entries_.end());
  by_hash_.emplace(hash, added);
  return added;
}

void ContextCache::Drop(Entries::iterator entry) {
  const auto [begin, end] = by_hash_.equal_range(Hash(entry->is_context, entry->key));
  by_hash_.erase(std::find_if(begin, end, [entry](const auto& slot) { return slot.second == entry; }));
  entries_.erase(entry);
}

std::shared_ptr<const SharedPages> ContextCache::FindContext(const ContextKey& key) {
  const auto found = Find(true, key);
  if (found == entries_.end()) return nullptr;
  Touch(found);
  return found->turn.pages;
}

void ContextCache::PutContext(const ContextKey& key, std::shared_ptr<const SharedPages> pages,
                              absl::Time pinned_until) {
  auto entry = Find(true, key);
  if (entry == entries_.end()) entry = Add({.key = key, .turn = {.pages = std::move(pages)}});
  entry->pinned_until = std::max(entry->pinned_until, pinned_until);
  Touch(entry);
}

bool ContextCache::DropContext(const ContextKey& key) {
  const auto found = Find(true, key);
  if (found == entries_.end()) return false;
  Drop(found);
  return true;
}

const Turn* ContextCache::FindConversation(const std::string& tenant, const std::string& id) {
  const auto found = Find(false, {.tenant = tenant, .policy = id});
  if (found == entries_.end()) return nullptr;
  Touch(found);
  return &found->turn;
}

void ContextCache::PutConversation(const std::string& tenant, const std::string& id, Turn turn) {
  const ContextKey key = {.tenant = tenant, .policy = id};
  auto entry = Find(false, key);
  if (entry == entries_.end()) entry = Add({.is_context = false, .key = key});
  entry->turn = std::move(turn);
  Touch(entry);
}

void ContextCache::Expire(absl::Time now) {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (entry->pinned() && entry->pinned_until <= now) Drop(entry);
    entry = next;
  }
}

absl::Time ContextCache::next_expiry() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Entry& entry : entries_) {
    if (entry.pinned()) next = std::min(next, entry.pinned_until);
  }
  return next;
}

bool ContextCache::DropOldest() {
  const auto oldest = std::find_if(entries_.begin(), entries_.end(),
                                   [](const Entry& entry) { return !entry.pinned() && entry.idle(); });
  if (oldest == entries_.end()) return false;
  Drop(oldest);
  return true;
}

void ContextCache::Clear() {
  by_hash_.clear();
  entries_.clear();
}

uint32_t ContextCache::FreedWithout(bool pinned) const {
  uint32_t pages = 0;
  std::unordered_map<const SharedPages*, long> dropped;  // References to what is held more than once.
  for (const Entry& entry : entries_) {
    if (entry.pinned() && !pinned) continue;
    const std::shared_ptr<const SharedPages>* held = &entry.turn.pages;
    while (*held != nullptr && (held->use_count() == 1 || ++dropped[held->get()] == held->use_count())) {
      pages += (*held)->own_pages();
      held = &(*held)->base();
    }
  }
  return pages;
}

ContextCache::Pages ContextCache::CountPages() const {
  Pages pages = {.idle = FreedWithout(/*pinned=*/true), .reclaimable = FreedWithout(/*pinned=*/false)};
  for (const Entry& entry : entries_) {
    if (entry.pinned()) pages.pinned += entry.turn.pages->own_pages();
  }
  return pages;
}

}  // namespace lukv
