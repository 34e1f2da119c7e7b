#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/kv_source.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/score_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_weights.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/score_tiles-inl.h"

#ifndef LUKV_KERNELS_CPU_ATTENTION_WEIGHTS_TYPES
#define LUKV_KERNELS_CPU_ATTENTION_WEIGHTS_TYPES
namespace lukv::cpu {

// The query heads of one kv head in one row.
struct RowWeights {
  KvSource source;
  int32_t group = 0;
  int32_t visible = 0;       // Entries
  int32_t n_entries = 0;     // Of them, those whose weights are wanted.
  const float* q = nullptr;  // [group, head_dim]
  float* out = nullptr;      // [group, n_entries]
  float scale = 0;           // Of the logits to the base 2.
  int64_t first_task = 0;
  TileSoftmax softmax;  // Row g is query head g of the group.
};

}  // namespace lukv::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// Unfinished weights of tiles [begin, end). scratch: [head_dim + group, kTileEntries]
void WeighRow(const RowWeights& row, int64_t begin, int64_t end, float* scratch) {
  float* keys = scratch;
  const size_t head_dim = static_cast<size_t>(row.source.head_dim);
  float* logits = scratch + head_dim * kTileEntries;
  for (int64_t t = begin; t < end; ++t) {
    const int32_t first = static_cast<int32_t>(t) * kTileEntries;
    const int32_t n = std::min(kTileEntries, row.visible - first);
    LoadKeys(row.source, first, row.visible, keys);
    MultiplyRows(row.q, head_dim, row.group, keys, row.source.head_dim, logits);
    const int32_t wanted = std::clamp(row.n_entries - first, 0, kTileEntries);
    for (size_t g = 0; g < static_cast<size_t>(row.group); ++g) {
      float* tile = logits + g * kTileEntries;
      for (int32_t i = 0; i < kTileEntries; ++i) tile[i] *= row.scale;
      const size_t at = static_cast<size_t>(t) * row.softmax.stride + g;
      WeighTile(n, tile, row.softmax.max + at, row.softmax.sum + at);
      std::copy_n(tile, wanted, row.out + g * static_cast<size_t>(row.n_entries) + first);
    }
  }
}

void FinishRow(const RowWeights& row) {
  FinishRows(row.softmax);
  for (size_t g = 0; g < static_cast<size_t>(row.group); ++g) {
    float* out = row.out + g * static_cast<size_t>(row.n_entries);
    for (int32_t first = 0; first < row.n_entries; first += kTileEntries) {
      const float factor = row.softmax.sum[static_cast<size_t>(first / kTileEntries) * row.softmax.stride + g];
      const int32_t end = std::min(first + kTileEntries, row.n_entries);
      for (int32_t i = first; i < end; ++i) out[i] *= factor;
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(WeighRow);
HWY_EXPORT(FinishRow);

namespace {

std::vector<RowWeights> PlanRows(const PagedAttentionWeightsArgs& args) {
  const PageTableView& table = args.table;
  const int32_t group = args.n_heads / table.n_kv_heads;
  const size_t head_dim = static_cast<size_t>(args.pages.head_dim);
  std::vector<RowWeights> rows;
  int64_t tasks = 0;
  for (int32_t s = 0; s < args.sequences.n_sequences; ++s) {
    const int32_t slot = args.sequences.slots[s];
    const int32_t end = args.sequences.row_start[s + 1];
    for (int32_t r = args.sequences.row_start[s]; r < end; ++r) {
      for (int32_t h = 0; h < table.n_kv_heads; ++h) {
        const size_t index = HeadIndex(table, slot, args.layer, h);
        const size_t head = static_cast<size_t>(h * group);
        const size_t out_row = static_cast<size_t>(r) * static_cast<size_t>(args.n_heads) + head;
        const RowWeights row = {.source = PagedSource(table, args.pages, index, /*bf16_products=*/false),
                                .group = group,
                                .visible = table.kept[index] + table.generated[slot] - (end - r) + 1,
                                .n_entries = args.n_entries,
                                .q = args.q.row<float>(r) + head * head_dim,
                                .out = args.out + out_row * static_cast<size_t>(args.n_entries),
                                .scale = args.scale * kLog2E,
                                .first_task = tasks};
        tasks += CountTileTasks(CountTiles(row.visible));
        rows.push_back(row);
      }
    }
  }
  return rows;
}

}  // namespace

void PagedAttentionWeights(const PagedAttentionWeightsArgs& args, OpContext& context) {
  std::vector<RowWeights> rows = PlanRows(args);
  const auto take = [&](FloatArena& arena) {
    for (RowWeights& row : rows) {
      row.softmax = TakeSoftmax(arena, CountTiles(row.visible), static_cast<size_t>(row.group));
    }
  };
  FloatArena count(nullptr);
  take(count);
  FloatArena arena(context.Scratch(-1, count.bytes()));
  take(arena);
  const size_t scratch_floats =
      static_cast<size_t>(args.pages.head_dim + args.n_heads / args.table.n_kv_heads) * kTileEntries;
  const int64_t tasks = rows.back().first_task + CountTileTasks(rows.back().softmax.tiles);
  context.pool.ParallelFor(tasks, [&](int64_t task, int thread) {
    const auto next = std::upper_bound(rows.begin(), rows.end(), task,
                                       [](int64_t t, const RowWeights& row) { return t < row.first_task; });
    const RowWeights& row = *(next - 1);
    const int64_t begin = (task - row.first_task) * kTilesPerTask;
    LUKV_DISPATCH(context, WeighRow)
    (row, begin, std::min(begin + kTilesPerTask, row.softmax.tiles),
     reinterpret_cast<float*>(context.Scratch(thread, scratch_floats * sizeof(float))));
  });
  context.pool.ParallelFor(static_cast<int64_t>(rows.size()), [&](int64_t row, int) {
    LUKV_DISPATCH(context, FinishRow)(rows[static_cast<size_t>(row)]);
  });
}

}  // namespace lukv::cpu
#endif
