// The softmax of the scorers: rows (of queries) over all entries of a head, in tiles of kTileEntries counted from the
// first entry. A tile's weights are taken relative to its own maximum; when all tiles are there they are brought
// together in ascending order. What comes out thus does not depend on who did which tile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_scratch.h"

namespace lukv::cpu {

inline constexpr int64_t kTilesPerTask = 4;

constexpr int64_t CountTiles(int64_t entries) { return (entries + kTileEntries - 1) / kTileEntries; }
constexpr int64_t CountTileTasks(int64_t tiles) { return (tiles + kTilesPerTask - 1) / kTilesPerTask; }

// Of `rows` rows over some tiles.
struct TileSoftmax {
  int64_t tiles = 0;
  size_t stride = 0;     // Rows, filled up to whole vectors.
  float* max = nullptr;  // [tiles, stride]
  float* sum = nullptr;  // [tiles, stride]; FinishSoftmax makes of it the factor of the tile's weights.
};

inline TileSoftmax TakeSoftmax(FloatArena& arena, int64_t tiles, size_t rows) {
  const size_t stride = (rows + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
  const size_t size = static_cast<size_t>(tiles) * stride;
  return {.tiles = tiles, .stride = stride, .max = arena.Take(size), .sum = arena.Take(size)};
}

}  // namespace lukv::cpu
