// Which pages hold the entries of each (slot, layer, kv head), and how many entries there are. The host is the only one
// to change it; kernels read a copy on their device (DevicePageTable). Knows nothing of sequences or positions.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv/page_pool.h"
#include "engine/kv/shared_pages.h"
#include "kernels/args.h"

namespace lukv {

// The dense index of a running sequence in device tables.
enum class Slot : int32_t {};
constexpr int32_t Value(Slot slot) { return static_cast<int32_t>(slot); }

struct KvGeometry {
  int32_t n_layers = 0;
  int32_t n_kv_heads = 0;
  int32_t page_tokens = 0;  // Entries per page.

  int32_t heads() const { return n_layers * n_kv_heads; }
  uint32_t PagesFor(int32_t entries) const { return static_cast<uint32_t>((entries + page_tokens - 1) / page_tokens); }
};

// Not thread-safe: belongs to the engine thread.
class HeadPageTable {
 public:
  // REQUIRES: everything > 0. `max_entries` bounds kept + generated of any head.
  HeadPageTable(const KvGeometry& geometry, int32_t n_slots, int32_t max_entries);
  // CHECKs that every slot was released.
  ~HeadPageTable();
  HeadPageTable(const HeadPageTable&) = delete;
  HeadPageTable& operator=(const HeadPageTable&) = delete;

  // Pages that heads with `kept` entries need, and those that they may need with `room` entries more in each head.
  // kept: [n_layers * n_kv_heads]
  uint32_t PagesFor(std::span<const int32_t> kept, int32_t room) const;

  // Takes slot into use. How much each head keeps is said later, layer by layer (SetKept), as some policies know it
  // only then; until that, a layer has no entries. `generated` entries follow what is kept, in every head, and the
  // heads may grow by `room` more. `lease` has the pages that all of that will take, or more. REQUIRES: the slot is
  // free; generated, room >= 0.
  void Open(Slot slot, int32_t generated, int32_t room, PageLease lease);
  // The heads of `layer` keep kept[head] entries; their pages are taken out of the slot's. Layers are set in ascending
  // order, each once. REQUIRES: open; kept[i] >= 0, kept[i] + generated + room <= max_entries; pages enough.
  void SetKept(Slot slot, int32_t layer, std::span<const int32_t> kept);
  // After the last layer: gives back the pages that no layer took.
  void ReturnSpare(Slot slot);
  // All of it at once, for a prompt whose kept entries are known: [n_layers * n_kv_heads].
  // REQUIRES: as above; lease.pages().size() == PagesFor(kept, 0).
  void Assign(Slot slot, std::span<const int32_t> kept, int32_t room, PageLease lease);

  // What the slot's heads hold of the context, and the first `generated` entries behind it, for others to go on from.
  // The slot keeps them and goes on, too, but cannot take them back (Truncate). REQUIRES: in use, all layers are set
  // and no spare pages held; generated <= generated(slot), and at least what it shares already.
  std::shared_ptr<const SharedPages> Share(Slot slot, int32_t generated);
  // Pages that OpenShared needs: one for each head whose last page is not full.
  uint32_t PagesToOpenShared(const SharedPages& shared, int32_t generated) const;
  // Takes slot into use with the entries of `shared`, but with no more than `generated` behind the context; it may grow
  // by `room`. The slot's heads get pages of their own from `lease` for last pages that are not full: the contents have
  // to be copied as the result says, before anything is written. REQUIRES: the slot is free; generated <=
  // shared->generated(); `lease` has PagesToOpenShared pages.
  std::vector<PageCopy> OpenShared(Slot slot, std::shared_ptr<const SharedPages> shared, int32_t generated,
                                   int32_t room, PageLease lease);
  // Pages of its own that the slot would hold with `generated` entries behind the context. REQUIRES: all layers are
  // set.
  uint32_t OwnPages(Slot slot, int32_t generated) const;
  // Pages of its own that a slot would hold that was opened so and then grew to `more` entries behind the context.
  uint32_t PagesToGoOn(const SharedPages& shared, int32_t generated, int32_t more) const;
  // What the slot shares, or null.
  const std::shared_ptr<const SharedPages>& shared(Slot slot) const {
    return slots_[static_cast<size_t>(Value(slot))].shared;
  }

  // Gives the slot's pages back. REQUIRES: in use.
  void Release(Slot slot);

  // Pages that the slot lacks to append n entries to each of its heads.
  uint32_t PagesToAppend(Slot slot, int32_t n) const;
  // Makes the heads n entries longer. REQUIRES: lease has PagesToAppend(slot, n) pages; n fits in `room`.
  void Append(Slot slot, int32_t n, PageLease lease);
  // Takes back what was appended after the first `kept_of_appended` entries; pages that hold none any more go to the
  // pool.
  // REQUIRES: in use, at least so many were appended, and none of those given up is shared.
  void Truncate(Slot slot, int32_t kept_of_appended);

  CacheLength Length(Slot slot, int32_t layer, int32_t head) const;
  // Pages of one head in order. [PagesFor(Length)]
  std::span<const PageId> Pages(Slot slot, int32_t layer, int32_t head) const;
  // Pages of its own.
  uint32_t pages_held(Slot slot) const;
  // Entries kept of the context by each head, [n_kv_heads]. REQUIRES: the layer was set.
  std::span<const int32_t> Kept(Slot slot, int32_t layer) const;
  // The same of all layers, [n_layers * n_kv_heads]. REQUIRES: all were set.
  std::span<const int32_t> AllKept(Slot slot) const;
  // Entries that followed them.
  int32_t generated(Slot slot) const { return static_cast<int32_t>(words_[GeneratedIndex(slot)]); }
  bool in_use(Slot slot) const { return slots_[static_cast<size_t>(Value(slot))].in_use; }

  const KvGeometry& geometry() const { return geometry_; }
  int32_t n_slots() const { return static_cast<int32_t>(slots_.size()); }
  int32_t max_entries() const { return max_entries_; }

  // The table is one array of words. As a view of such an array, here or on a device:
  PageTableView View(const uint32_t* words) const;
  size_t n_words() const { return WordsFor(geometry_, n_slots(), max_entries_); }
  static size_t WordsFor(const KvGeometry& geometry, int32_t n_slots, int32_t max_entries);
  // Words that changed since ForgetChanges, with their values of now; each index once.
  std::vector<ScatterUpdate> Changes();
  void ForgetChanges() { changes_.clear(); }
  // The first words; all but the lists of pages, most of which are never touched.
  std::span<const uint32_t> Lengths() const { return {words_.get(), arena_}; }

 private:
  struct SlotState {
    bool in_use = false;
    int32_t layers_set = 0;
    int32_t room = 0;         // Entries that may still be appended.
    size_t arena_end = 0;     // Of what the slot's heads have in the arena.
    uint32_t pages_used = 0;  // Of the lease, from the front; all of it once the spare pages are back.
    PageLease lease;
    std::shared_ptr<const SharedPages> shared;
    int32_t shared_generated = 0;   // Entries of it behind the context that the slot has.
    bool shares_last_page = false;  // It is the slot that may write into it.
  };
  // Pages of a head that are not the slot's own.
  uint32_t SharedCount(const SlotState& state, int32_t kept) const;
  // Words: generated [n_slots], kept [n_slots, n_layers, n_kv_heads], offset [same], arena [n_slots * slot_stride_].
  size_t GeneratedIndex(Slot slot) const { return static_cast<size_t>(Value(slot)); }
  size_t HeadIndex(Slot slot, int32_t layer, int32_t head) const;
  int32_t KeptOf(size_t head) const { return static_cast<int32_t>(words_[kept_ + head]); }
  void Set(size_t word, uint32_t value);

  const KvGeometry geometry_;
  const int32_t max_entries_;
  const size_t slot_stride_;  // Arena entries set aside per slot, so that no slot's list ever moves.
  const size_t kept_;         // Where the sections begin.
  const size_t offset_;
  const size_t arena_;
  std::unique_ptr<uint32_t[]> words_;  // The arena is left uninitialised.
  std::vector<uint32_t> changes_;      // Indices
  std::vector<SlotState> slots_;
};

}  // namespace lukv
