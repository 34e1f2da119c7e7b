#include "engine/kv/head_page_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace lukv {

HeadPageTable::HeadPageTable(const KvGeometry& geometry, int32_t n_slots, int32_t max_entries)
    : geometry_(geometry),
      max_entries_(max_entries),
      slot_stride_(static_cast<size_t>(geometry.heads()) * geometry.PagesFor(max_entries)),
      kept_(static_cast<size_t>(n_slots)),
      offset_(kept_ + static_cast<size_t>(n_slots) * static_cast<size_t>(geometry.heads())),
      arena_(offset_ + static_cast<size_t>(n_slots) * static_cast<size_t>(geometry.heads())) {
  LUKV_CHECK(geometry.n_layers > 0 && geometry.n_kv_heads > 0 && geometry.page_tokens > 0);
  LUKV_CHECK(n_slots > 0 && max_entries > 0);
  slots_.resize(static_cast<size_t>(n_slots));
  LUKV_CHECK(n_words() <= UINT32_MAX);
  words_ = std::make_unique_for_overwrite<uint32_t[]>(n_words());
  std::fill(words_.get(), words_.get() + arena_, 0);
}

size_t HeadPageTable::WordsFor(const KvGeometry& geometry, int32_t n_slots, int32_t max_entries) {
  const size_t heads = static_cast<size_t>(n_slots) * static_cast<size_t>(geometry.heads());
  return static_cast<size_t>(n_slots) + heads * (2 + size_t{geometry.PagesFor(max_entries)});
}

HeadPageTable::~HeadPageTable() {
  for (const SlotState& slot : slots_) LUKV_CHECK(!slot.in_use);
}

uint32_t HeadPageTable::PagesFor(std::span<const int32_t> kept, int32_t room) const {
  uint32_t pages = 0;
  for (const int32_t entries : kept) pages += geometry_.PagesFor(entries + room);
  return pages;
}

size_t HeadPageTable::HeadIndex(Slot slot, int32_t layer, int32_t head) const {
  LUKV_CHECK(Value(slot) >= 0 && Value(slot) < n_slots());
  LUKV_CHECK(layer >= 0 && layer < geometry_.n_layers && head >= 0 && head < geometry_.n_kv_heads);
  return (static_cast<size_t>(Value(slot)) * static_cast<size_t>(geometry_.n_layers) + static_cast<size_t>(layer)) *
             static_cast<size_t>(geometry_.n_kv_heads) +
         static_cast<size_t>(head);
}

void HeadPageTable::Set(size_t word, uint32_t value) {
  words_[word] = value;
  changes_.push_back(static_cast<uint32_t>(word));
}

std::vector<ScatterUpdate> HeadPageTable::Changes() {
  std::sort(changes_.begin(), changes_.end());
  changes_.erase(std::unique(changes_.begin(), changes_.end()), changes_.end());
  std::vector<ScatterUpdate> updates;
  updates.reserve(changes_.size());
  for (const uint32_t index : changes_) updates.push_back({.index = index, .value = words_[index]});
  return updates;
}

void HeadPageTable::Open(Slot slot, int32_t generated, int32_t room, PageLease lease) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  LUKV_CHECK(!state.in_use && generated >= 0 && room >= 0);
  const size_t first = HeadIndex(slot, 0, 0);
  for (size_t i = first; i < first + static_cast<size_t>(geometry_.heads()); ++i) Set(kept_ + i, 0);
  Set(GeneratedIndex(slot), static_cast<uint32_t>(generated));
  state = SlotState{.in_use = true,
                    .room = room,
                    .arena_end = static_cast<size_t>(Value(slot)) * slot_stride_,
                    .lease = std::move(lease)};
}

void HeadPageTable::SetKept(Slot slot, int32_t layer, std::span<const int32_t> kept) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  LUKV_CHECK(state.in_use && state.layers_set == layer);
  LUKV_CHECK(kept.size() == static_cast<size_t>(geometry_.n_kv_heads));
  const int32_t appended = generated(slot);
  const size_t first = HeadIndex(slot, layer, 0);
  for (size_t i = 0; i < kept.size(); ++i) {
    LUKV_CHECK(kept[i] >= 0 && kept[i] <= max_entries_ - appended - state.room);
    const uint32_t pages = geometry_.PagesFor(kept[i] + appended);
    LUKV_CHECK(pages <= state.lease.pages().size() - state.pages_used);
    Set(offset_ + first + i, static_cast<uint32_t>(state.arena_end));
    Set(kept_ + first + i, static_cast<uint32_t>(kept[i]));
    const PageId* const leased = state.lease.pages().data() + state.pages_used;
    for (uint32_t p = 0; p < pages; ++p) Set(arena_ + state.arena_end + p, leased[p]);
    state.pages_used += pages;
    state.arena_end += geometry_.PagesFor(kept[i] + appended + state.room);
  }
  ++state.layers_set;
}

void HeadPageTable::ReturnSpare(Slot slot) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  LUKV_CHECK(state.in_use && state.layers_set == geometry_.n_layers);
  const std::span<const PageId> spare = state.lease.pages().subspan(state.pages_used);
  state.lease.GiveBack({spare.begin(), spare.end()});
}

void HeadPageTable::Assign(Slot slot, std::span<const int32_t> kept, int32_t room, PageLease lease) {
  LUKV_CHECK(kept.size() == static_cast<size_t>(geometry_.heads()));
  LUKV_CHECK(lease.pages().size() == PagesFor(kept, 0));
  Open(slot, 0, room, std::move(lease));
  const size_t heads = static_cast<size_t>(geometry_.n_kv_heads);
  for (int32_t layer = 0; layer < geometry_.n_layers; ++layer) {
    SetKept(slot, layer, kept.subspan(static_cast<size_t>(layer) * heads, heads));
  }
}

uint32_t HeadPageTable::SharedCount(const SlotState& state, int32_t kept) const {
  if (state.shared == nullptr) return 0;
  const int32_t entries = kept + state.shared_generated;
  return state.shares_last_page ? geometry_.PagesFor(entries) : static_cast<uint32_t>(entries / geometry_.page_tokens);
}

std::shared_ptr<const SharedPages> HeadPageTable::Share(Slot slot, int32_t generated) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  LUKV_CHECK(state.in_use && state.layers_set == geometry_.n_layers && state.pages_used == state.lease.pages().size());
  LUKV_CHECK(generated <= this->generated(slot) && generated >= state.shared_generated);
  auto shared = std::make_shared<SharedPages>();
  shared->generated_ = generated;
  shared->base_ = state.shared;
  std::vector<PageId> own;
  const size_t first = HeadIndex(slot, 0, 0);
  for (size_t i = first; i < first + static_cast<size_t>(geometry_.heads()); ++i) {
    const int32_t kept = KeptOf(i);
    const std::span<const PageId> pages(&words_[arena_ + words_[offset_ + i]], geometry_.PagesFor(kept + generated));
    shared->kept_.push_back(kept);
    shared->first_page_.push_back(static_cast<uint32_t>(shared->pages_.size()));
    shared->pages_.insert(shared->pages_.end(), pages.begin(), pages.end());
    // With nothing added there may be fewer pages than are shared already.
    const size_t before = std::min<size_t>(SharedCount(state, kept), pages.size());
    own.insert(own.end(), pages.begin() + static_cast<std::ptrdiff_t>(before), pages.end());
  }
  shared->first_page_.push_back(static_cast<uint32_t>(shared->pages_.size()));
  shared->lease_ = state.lease.Split(std::move(own), PageOwner::kContext);
  state.pages_used = static_cast<uint32_t>(state.lease.pages().size());
  state.shared = shared;
  state.shared_generated = generated;
  state.shares_last_page = true;
  return shared;
}

uint32_t HeadPageTable::PagesToOpenShared(const SharedPages& shared, int32_t generated) const {
  return static_cast<uint32_t>(std::count_if(shared.kept().begin(), shared.kept().end(), [&](int32_t kept) {
    return (kept + generated) % geometry_.page_tokens != 0;
  }));
}

std::vector<PageCopy> HeadPageTable::OpenShared(Slot slot, std::shared_ptr<const SharedPages> shared, int32_t generated,
                                                int32_t room, PageLease lease) {
  LUKV_CHECK(shared->kept().size() == static_cast<size_t>(geometry_.heads()));
  LUKV_CHECK(generated >= 0 && generated <= shared->generated());
  LUKV_CHECK(lease.pages().size() == PagesToOpenShared(*shared, generated));
  Open(slot, generated, room, std::move(lease));
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  std::vector<PageCopy> copies;
  const size_t first = HeadIndex(slot, 0, 0);
  for (size_t head = 0; head < shared->kept().size(); ++head) {
    const int32_t kept = shared->kept()[head];
    LUKV_CHECK(kept + generated <= max_entries_ - room);
    const std::span<const PageId> pages = shared->pages(head);
    const size_t full = static_cast<size_t>((kept + generated) / geometry_.page_tokens);
    Set(offset_ + first + head, static_cast<uint32_t>(state.arena_end));
    Set(kept_ + first + head, static_cast<uint32_t>(kept));
    for (size_t p = 0; p < full; ++p) Set(arena_ + state.arena_end + p, pages[p]);
    if ((kept + generated) % geometry_.page_tokens != 0) {
      const PageId own = state.lease.pages()[state.pages_used++];
      Set(arena_ + state.arena_end + full, own);
      copies.push_back({.from = pages[full], .to = own});
    }
    state.arena_end += geometry_.PagesFor(kept + generated + room);
  }
  state.layers_set = geometry_.n_layers;
  state.shared = std::move(shared);
  state.shared_generated = generated;
  return copies;
}

uint32_t HeadPageTable::PagesToGoOn(const SharedPages& shared, int32_t generated, int32_t more) const {
  uint32_t pages = 0;
  for (const int32_t kept : shared.kept()) {
    pages += geometry_.PagesFor(kept + more) - static_cast<uint32_t>((kept + generated) / geometry_.page_tokens);
  }
  return pages;
}

uint32_t HeadPageTable::OwnPages(Slot slot, int32_t generated) const {
  const SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  LUKV_CHECK(state.layers_set == geometry_.n_layers);
  uint32_t pages = 0;
  const size_t first = HeadIndex(slot, 0, 0);
  for (size_t i = first; i < first + static_cast<size_t>(geometry_.heads()); ++i) {
    const uint32_t shared = SharedCount(state, KeptOf(i));
    pages += std::max(geometry_.PagesFor(KeptOf(i) + generated), shared) - shared;
  }
  return pages;
}

void HeadPageTable::Release(Slot slot) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  LUKV_CHECK(state.in_use);
  state = SlotState();
}

uint32_t HeadPageTable::PagesToAppend(Slot slot, int32_t n) const {
  const int32_t appended = generated(slot);
  const size_t first = HeadIndex(slot, 0, 0);
  uint32_t pages = 0;
  for (size_t i = first; i < first + static_cast<size_t>(geometry_.heads()); ++i) {
    const int32_t length = KeptOf(i) + appended;
    pages += geometry_.PagesFor(length + n) - geometry_.PagesFor(length);
  }
  return pages;
}

void HeadPageTable::Append(Slot slot, int32_t n, PageLease lease) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  const int32_t appended = generated(slot);
  LUKV_CHECK(state.in_use && state.layers_set == geometry_.n_layers && n >= 0 && n <= state.room);
  LUKV_CHECK(state.pages_used == state.lease.pages().size());  // No spare pages are held any more.
  LUKV_CHECK(lease.pages().size() == PagesToAppend(slot, n));
  const PageId* next = lease.pages().data();
  const size_t first = HeadIndex(slot, 0, 0);
  for (size_t i = first; i < first + static_cast<size_t>(geometry_.heads()); ++i) {
    const int32_t length = KeptOf(i) + appended;
    const uint32_t have = geometry_.PagesFor(length);
    const uint32_t more = geometry_.PagesFor(length + n) - have;
    for (uint32_t p = 0; p < more; ++p) Set(arena_ + words_[offset_ + i] + have + p, *next++);
  }
  Set(GeneratedIndex(slot), static_cast<uint32_t>(appended + n));
  state.room -= n;
  state.lease.Absorb(std::move(lease));
  state.pages_used = static_cast<uint32_t>(state.lease.pages().size());
}

void HeadPageTable::Truncate(Slot slot, int32_t kept_of_appended) {
  SlotState& state = slots_[static_cast<size_t>(Value(slot))];
  const int32_t appended = generated(slot);
  LUKV_CHECK(state.in_use && kept_of_appended >= state.shared_generated && kept_of_appended <= appended);
  std::vector<PageId> unused;
  const size_t first = HeadIndex(slot, 0, 0);
  for (size_t i = first; i < first + static_cast<size_t>(geometry_.heads()); ++i) {
    const PageId* const pages = &words_[arena_ + words_[offset_ + i]];
    unused.insert(unused.end(), pages + geometry_.PagesFor(KeptOf(i) + kept_of_appended),
                  pages + geometry_.PagesFor(KeptOf(i) + appended));
  }
  state.room += appended - kept_of_appended;
  Set(GeneratedIndex(slot), static_cast<uint32_t>(kept_of_appended));
  state.lease.GiveBack(std::move(unused));
  state.pages_used = static_cast<uint32_t>(state.lease.pages().size());
}

CacheLength HeadPageTable::Length(Slot slot, int32_t layer, int32_t head) const {
  return CacheLength{KeptOf(HeadIndex(slot, layer, head)) + generated(slot)};
}

std::span<const PageId> HeadPageTable::Pages(Slot slot, int32_t layer, int32_t head) const {
  return {&words_[arena_ + words_[offset_ + HeadIndex(slot, layer, head)]],
          geometry_.PagesFor(Value(Length(slot, layer, head)))};
}

std::span<const int32_t> HeadPageTable::Kept(Slot slot, int32_t layer) const {
  LUKV_CHECK(layer < slots_[static_cast<size_t>(Value(slot))].layers_set);
  return {reinterpret_cast<const int32_t*>(&words_[kept_ + HeadIndex(slot, layer, 0)]),
          static_cast<size_t>(geometry_.n_kv_heads)};
}

std::span<const int32_t> HeadPageTable::AllKept(Slot slot) const {
  LUKV_CHECK(slots_[static_cast<size_t>(Value(slot))].layers_set == geometry_.n_layers);
  return {reinterpret_cast<const int32_t*>(&words_[kept_ + HeadIndex(slot, 0, 0)]),
          static_cast<size_t>(geometry_.heads())};
}

uint32_t HeadPageTable::pages_held(Slot slot) const {
  return static_cast<uint32_t>(slots_[static_cast<size_t>(Value(slot))].lease.pages().size());
}

PageTableView HeadPageTable::View(const uint32_t* words) const {
  return PageTableView{.arena = words + arena_,
                       .offset = words + offset_,
                       .kept = reinterpret_cast<const int32_t*>(words + kept_),
                       .generated = reinterpret_cast<const int32_t*>(words),
                       .n_slots = n_slots(),
                       .n_layers = geometry_.n_layers,
                       .n_kv_heads = geometry_.n_kv_heads};
}

}  // namespace lukv
