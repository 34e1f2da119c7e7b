// Slots that share what they hold: their contents, page by page, against what each of them should see.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "engine/kv/head_page_table.h"

namespace lukv {
namespace {

// The pages' contents as a device would hold them, one number an entry.
class World {
 public:
  World(const KvGeometry& geometry, uint32_t n_pages, int32_t slots, int32_t max_entries)
      : geometry_(geometry),
        pool_(n_pages),
        table_(geometry, slots, max_entries),
        memory_(static_cast<size_t>(n_pages) * static_cast<size_t>(geometry.page_tokens)) {}

  HeadPageTable& table() { return table_; }
  PagePool& pool() { return pool_; }

  // Writes entries [begin, end) of every head of the slot.
  void Write(Slot slot, int32_t begin_of_appended, int32_t end_of_appended, int32_t value) {
    ForHeads(slot, [&](int32_t layer, int32_t head, int32_t kept) {
      for (int32_t i = kept + begin_of_appended; i < kept + end_of_appended; ++i) At(slot, layer, head, i) = value + i;
    });
  }
  void WriteKept(Slot slot, int32_t value) {
    ForHeads(slot, [&](int32_t layer, int32_t head, int32_t kept) {
      for (int32_t i = 0; i < kept; ++i) At(slot, layer, head, i) = value + i;
    });
  }
  void Copy(const std::vector<PageCopy>& copies) {
    const auto page = static_cast<size_t>(geometry_.page_tokens);
    for (const PageCopy& copy : copies) std::copy_n(&memory_[copy.from * page], page, &memory_[copy.to * page]);
  }
  // All entries, head after head.
  std::vector<int32_t> Read(Slot slot) {
    std::vector<int32_t> entries;
    ForHeads(slot, [&](int32_t layer, int32_t head, int32_t kept) {
      for (int32_t i = 0; i < kept + table_.generated(slot); ++i) entries.push_back(At(slot, layer, head, i));
    });
    return entries;
  }

 private:
  template <typename F>
  void ForHeads(Slot slot, F f) {
    for (int32_t layer = 0; layer < geometry_.n_layers; ++layer) {
      for (int32_t head = 0; head < geometry_.n_kv_heads; ++head) {
        f(layer, head, table_.Kept(slot, layer)[static_cast<size_t>(head)]);
      }
    }
  }
  int32_t& At(Slot slot, int32_t layer, int32_t head, int32_t entry) {
    const PageId page = table_.Pages(slot, layer, head)[static_cast<size_t>(entry / geometry_.page_tokens)];
    return memory_[page * static_cast<size_t>(geometry_.page_tokens) +
                   static_cast<size_t>(entry % geometry_.page_tokens)];
  }

  const KvGeometry geometry_;
  PagePool pool_;
  HeadPageTable table_;
  std::vector<int32_t> memory_;
};

TEST(SharedPages, EachSlotSeesItsOwnUnderRandomUse) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % static_cast<uint32_t>(n)); };
    const KvGeometry geometry{.n_layers = 1 + below(2), .n_kv_heads = 1 + below(3), .page_tokens = 1 + below(5)};
    constexpr int32_t kSlots = 5;
    constexpr int32_t kMax = 60;
    World world(geometry, 800, kSlots, kMax);
    HeadPageTable& table = world.table();
    std::map<int32_t, std::vector<int32_t>> expected;  // By slot.
    std::map<int32_t, int32_t> room;
    std::vector<std::pair<std::shared_ptr<const SharedPages>, std::vector<int32_t>>> kept;  // With what is in them.
    int32_t value = 0;
    // What is left of a slot's entries if only so many are behind the context.
    const auto first_of = [&](const SharedPages& shared, const std::vector<int32_t>& entries, int32_t generated) {
      std::vector<int32_t> result;
      size_t at = 0;
      for (const int32_t k : shared.kept()) {
        result.insert(result.end(), entries.begin() + static_cast<std::ptrdiff_t>(at),
                      entries.begin() + static_cast<std::ptrdiff_t>(at) + k + generated);
        at += static_cast<size_t>(k + shared.generated());
      }
      return result;
    };
    for (int step = 0; step < 150; ++step) {
      const int32_t s = below(kSlots);
      const Slot slot{s};
      value += 1000;
      if (!table.in_use(slot)) {
        room[s] = below(20);
        if (!kept.empty() && below(3) > 0) {
          const auto& [shared, entries] = kept[static_cast<size_t>(below(static_cast<int32_t>(kept.size())))];
          const int32_t generated = below(shared->generated() + 1);
          auto lease = world.pool().Take(table.PagesToOpenShared(*shared, generated), PageOwner::kSequence);
          if (!lease.ok()) continue;
          ASSERT_EQ(table.PagesToOpenShared(*shared, generated), table.PagesToGoOn(*shared, generated, generated));
          world.Copy(table.OpenShared(slot, shared, generated, room[s], *std::move(lease)));
          ASSERT_EQ(world.Read(slot), first_of(*shared, entries, generated));
        } else {
          std::vector<int32_t> lengths(static_cast<size_t>(geometry.heads()));
          for (int32_t& length : lengths) length = below(20);
          auto lease = world.pool().Take(table.PagesFor(lengths, 0), PageOwner::kSequence);
          if (!lease.ok()) continue;
          table.Assign(slot, lengths, room[s], *std::move(lease));
          world.WriteKept(slot, value);
        }
      } else if (below(6) == 0) {
        table.Release(slot);
        expected.erase(s);
        continue;
      } else if (below(4) == 0) {
        // No less than it shares already.
        const int32_t all_of_it = table.generated(slot);
        const int32_t generated = table.shared(slot) == nullptr ? below(all_of_it + 1) : all_of_it;
        const uint32_t used = world.pool().used();
        const auto shared = table.Share(slot, generated);
        kept.emplace_back(shared, std::vector<int32_t>());
        ASSERT_EQ(world.pool().used(), used);
        // What is in it: a slot opened from it shows.
        std::vector<int32_t> entries;
        size_t at = 0;
        const std::vector<int32_t> all = world.Read(slot);
        for (const int32_t k : shared->kept()) {
          entries.insert(entries.end(), all.begin() + static_cast<std::ptrdiff_t>(at),
                         all.begin() + static_cast<std::ptrdiff_t>(at) + k + generated);
          at += static_cast<size_t>(k + table.generated(slot));
        }
        kept.back().second = entries;
      } else if (!kept.empty() && below(5) == 0) {
        kept.erase(kept.begin() + below(static_cast<int32_t>(kept.size())));
      } else {
        const int32_t n = std::min(room[s], below(6));
        const uint32_t own = table.OwnPages(slot, table.generated(slot) + n);
        auto lease = world.pool().Take(table.PagesToAppend(slot, n), PageOwner::kSequence);
        if (!lease.ok()) continue;
        const int32_t before = table.generated(slot);
        table.Append(slot, n, *std::move(lease));
        ASSERT_EQ(own, table.pages_held(slot));
        world.Write(slot, before, before + n, value);
        room[s] -= n;
      }
      if (table.in_use(slot)) expected[s] = world.Read(slot);
      for (const auto& [other, entries] : expected) ASSERT_EQ(world.Read(Slot{other}), entries) << seed << " " << step;
    }
    for (int32_t s = 0; s < kSlots; ++s) {
      if (table.in_use(Slot{s})) table.Release(Slot{s});
    }
    kept.clear();
    ASSERT_EQ(world.pool().used(), 0u);
    ASSERT_EQ(world.pool().used_by(PageOwner::kContext), 0u);
  }
}

}  // namespace
}  // namespace lukv
