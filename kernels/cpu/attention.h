// The one attention algorithm of the CPU backend; prefill_attention.cc and paged_attention.cc only say where K and V
// lie and who does what.
//
// A row block is some consecutive query tokens of one sequence with all query heads of one kv head: they share K and V.
// Entries (keys) are taken in tiles of kTileEntries, tiles in splits of kSplitEntries, both at absolute multiples from
// the sequence's first entry. A split is an online softmax over its tiles (Milakov & Gimelshein, arXiv 1805.02867);
// splits are merged in ascending order. What a row computes thus follows from its own entries alone: the same bits
// whether it is prefilled, appended or decoded, whoever else is in the batch and however many threads there are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/args.h"

namespace lukv::cpu {

class OpContext;

inline constexpr int32_t kTileEntries = 64;
inline constexpr int32_t kSplitEntries = 256;
inline constexpr int32_t kMaxLanes = 16;  // f32 lanes of the widest vector
inline constexpr float kLog2E = 1.44269504088896341f;

// Row widths in scratch are whole vectors of the widest kind.
constexpr size_t PaddedDim(int32_t head_dim) {
  return (static_cast<size_t>(head_dim) + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
}

// K and V of one kv head. Entry e lies in row e % page_entries of page pages[e / page_entries]; contiguous memory is
// one page (pages == null).
struct KvSource {
  const void* k = nullptr;  // First page's K (or page 0 of all, with `pages`).
  const void* v = nullptr;
  DType dtype = DType::kBF16;
  bool bf16_products = false;  // Multiply bf16 by bf16; only where the CPU can. REQUIRES: kBF16
  int32_t head_dim = 0;
  const PageId* pages = nullptr;
  int32_t page_entries = 0;
  size_t page_stride = 0;  // Elements from one page to the next, for K and V alike.
};

// Running softmax of the rows of a block: out = acc / sum.
struct SoftmaxState {
  float* acc = nullptr;  // [rows, PaddedDim]
  float* max = nullptr;  // [rows], of the scaled scores
  float* sum = nullptr;  // [rows, kMaxLanes], to be added up over the lanes
};

// A row block at work. Row r is query token r / group, head r % group.
struct RowBlock {
  int32_t rows = 0;
  int32_t group = 0;
  int32_t head_dim = 0;
  int32_t first_visible = 0;  // Entries that the rows of token 0 see; token i sees i more.
  int64_t first_row = 0;      // Row of q and out where token 0 stands.
  int32_t first_head = 0;     // Query head of the group's first.
  float scale = 0;            // Of the scores, times log2(e): weights are powers of 2. Positive.
  float* q = nullptr;         // [rows, PaddedDim], or [rows, 2 * PaddedDim] bf16
};

// Tile buffers of one thread. With bf16_products a word holds two bf16, see attention_tiles-inl.h.
struct TileScratch {
  float* keys = nullptr;     // [head_dim, kTileEntries], transposed
  float* values = nullptr;   // [kTileEntries, PaddedDim]
  float* scores = nullptr;   // [kRowsAtOnce, kTileEntries]
  float* weights = nullptr;  // [kRowsAtOnce, kTileEntries / 2], of pairs
};

inline constexpr int32_t kRowsAtOnce = 6;  // Query rows of a register tile.

// What one thread needs to take a row block over all its splits.
struct BlockScratch {
  float* q = nullptr;
  SoftmaxState split;
  SoftmaxState total;
  TileScratch tile;
};

// The rows of a block over all their entries, on this thread: splits in ascending order, merged one by one.
void AttendBlock(const OpContext& context, const ConstMatrix& q, const KvSource& source, const RowBlock& block,
                 const BlockScratch& scratch, const Matrix& out);

// The same in pieces: first each split (`begin` is a multiple of kSplitEntries that the last row sees) into a state of
// its own, on any thread; then all of them, in ascending order.
void AttendBlockSplit(const OpContext& context, const ConstMatrix& q, const KvSource& source, const RowBlock& block,
                      int32_t begin, const SoftmaxState& state, const BlockScratch& scratch);
void MergeBlockSplits(const OpContext& context, const RowBlock& block, const SoftmaxState* splits, int64_t n,
                      const BlockScratch& scratch, const Matrix& out);

}  // namespace lukv::cpu
