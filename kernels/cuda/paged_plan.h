// How paged attention is shared out, and put together again. Shared by paged_plan.cu and paged_attention.cu.
//
// What a row sees of a head is cut into chunks at absolute multiples of kPagedChunk entries, or of a power of 2 times
// that, so that there are kPagedMaxChunks of them at most: how long a chunk is follows from the count of entries that
// the row sees, and from nothing else. Each chunk of each row gives a partial softmax (its maximum, the sum of its
// weights, their product with V); the merge adds those up in ascending order. A row thus has the same bits whichever
// rows and sequences are with it.
//
// Work: some tokens of a sequence whose chunks are equally long, with all (or, of very large groups, some) query heads
// of one kv head, are a unit; a chunk of a unit is an item. A small kernel lists the units, by the lengths of the page
// table at that time; the persistent blocks of the attention kernel then take even and contiguous ranges of the items.
// Nothing of that is known to the host, so a captured graph stays right while lengths change.
//
// Memory: the chunks of a row are bounded and the rows of a launch are chosen to suit, so the partial results take
// kPagedWorkspaceBytes at most, whatever lengths there are: rows * n_heads * chunks * (head_dim + 2) * 4 bytes, with
// chunks = min(kPagedMaxChunks, what all pages of the store hold / kPagedChunk). A decoded row of Llama 3.1 8B takes
// 2.03 MiB with a store of 100,000 pages of 64 (or any that has more than 512 pages), so a launch has up to 66.
#pragma once

#include "kernels/args.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/op_context.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {

inline constexpr int kPagedChunk = 256;
inline constexpr int kPagedMaxChunks = 128;

struct alignas(16) PagedUnit {
  int32_t first_item;  // Items of the units before it
  int32_t row;         // Of its first token, in the launch
  int32_t visible;     // Entries that the first token sees; each further one sees one more.
  int32_t tokens;
  int32_t first_head;  // Query head
  int32_t heads;       // Packed row i of the unit is token i / heads, head first_head + i % heads.
  uint32_t pages;      // Of the kv head, in the arena
  int32_t chunk_entries;

  LUKV_DEVICE int Rows() const { return tokens * heads; }
  // Of its last token.
  LUKV_DEVICE int MaxVisible() const { return visible + tokens - 1; }
};

struct PagedCounts {
  int32_t units;
  int32_t items;
};

// The rows [row_begin, row_begin + rows) of a call, and device memory for what lies between its kernels.
struct PagedLaunch {
  PagedAttentionArgs args;
  float scale = 0;       // Of scores, for powers of 2
  bool aligned = false;  // AttentionRowsAligned of q and out
  int32_t row_begin = 0;
  int32_t rows = 0;
  int32_t unit_rows = 0;    // Packed rows of a unit, at most.
  int32_t chunk_slots = 0;  // Partial results that a row has room for, per head
  PagedCounts* counts = nullptr;
  int32_t* visible = nullptr;  // [rows, n_kv_heads]
  PagedUnit* units = nullptr;
  float2* softmax = nullptr;  // [rows, n_heads, chunk_slots]: greatest scaled score, sum of weights
  float* acc = nullptr;       // [rows, n_heads, chunk_slots, head_dim]

  LUKV_DEVICE int64_t Partial(int row, int head, int chunk) const {
    return (static_cast<int64_t>(row) * args.n_heads + head) * chunk_slots + chunk;
  }
};

// How long the chunks of a row are.
LUKV_DEVICE int PagedChunkEntries(int visible) {
  int entries = kPagedChunk;
  while (static_cast<int64_t>(entries) * kPagedMaxChunks < visible) entries *= 2;
  return entries;
}

// Runs `attend` for the call's rows, some at a time, between listing their units and merging their chunks. unit_rows:
// packed rows that a unit of this kernel may have.
using PagedAttend = cudaError_t (*)(const PagedLaunch& launch, const OpContext& context);
cudaError_t RunPagedAttention(const PagedAttentionArgs& args, int32_t unit_rows, PagedAttend attend,
                              const OpContext& context);

}  // namespace lukv::cuda
