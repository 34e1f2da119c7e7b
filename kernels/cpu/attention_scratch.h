// Carves the float arrays of a row block out of one piece of scratch memory.
#pragma once

#include <cstddef>

#include "kernels/cpu/attention.h"

namespace lukv::cpu {

class FloatArena {
 public:
  // begin == nullptr only counts.
  explicit FloatArena(std::byte* begin) : begin_(begin) {}

  // 64-byte aligned.
  float* Take(size_t n) {
    float* p = begin_ == nullptr ? nullptr : reinterpret_cast<float*>(begin_ + bytes_);
    bytes_ += (n * sizeof(float) + 63) / 64 * 64;
    return p;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* begin_;
  size_t bytes_ = 0;
};

inline SoftmaxState TakeState(FloatArena& arena, size_t rows, int32_t head_dim) {
  return {.acc = arena.Take(rows * PaddedDim(head_dim)),
          .max = arena.Take(rows + kMaxLanes),  // Read by whole vectors.
          .sum = arena.Take(rows * kMaxLanes)};
}

inline TileScratch TakeTile(FloatArena& arena, int32_t head_dim) {
  return {.keys = arena.Take(static_cast<size_t>(head_dim) * kTileEntries),
          .values = arena.Take(kTileEntries * PaddedDim(head_dim)),
          .scores = arena.Take(size_t{kRowsAtOnce} * kTileEntries),
          .weights = arena.Take(size_t{kRowsAtOnce} * kTileEntries / 2)};
}

inline BlockScratch TakeBlock(FloatArena& arena, size_t rows, int32_t head_dim) {
  return {.q = arena.Take(rows * PaddedDim(head_dim)),
          .split = TakeState(arena, rows, head_dim),
          .total = TakeState(arena, rows, head_dim),
          .tile = TakeTile(arena, head_dim)};
}

inline size_t BlockScratchBytes(size_t rows, int32_t head_dim) {
  FloatArena count(nullptr);
  TakeBlock(count, rows, head_dim);
  return count.bytes();
}

// Query tokens of a row block: enough rows that bringing a tile into shape is cheap beside using it, few enough that
// their state stays in the second-level cache and that there are blocks for every thread.
inline int32_t TokensPerBlock(int32_t group) {
  constexpr int32_t kRowsPerBlock = 192;
  return group >= kRowsPerBlock ? 1 : kRowsPerBlock / group;
}

}  // namespace lukv::cpu
