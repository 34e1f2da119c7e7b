// Arguments of the backend ops: plain structs of pointers, shapes and strides, the same for every device. Pointers are
// device pointers of the backend that runs the op (host memory for the CPU backend) unless a comment says "host".
// Counts are in elements, never in bytes. Rows of a matrix are tokens; the innermost dimension is contiguous.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/kv_types.h"

namespace lukv {

class LinearWeight;     // Made by Backend::PackLinear; opaque to callers.
class EmbeddingWeight;  // Made by Backend::PackEmbedding.

// Activations: [rows, cols], row r starts stride elements after row r - 1. The dtype is the backend's
// activation_dtype() (kF32 on the CPU); logits are kF32 everywhere.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  // REQUIRES: T is the C++ type of dtype.
  template <typename T>
  constexpr T* row(int64_t r) const {
    return static_cast<T*>(data) + r * stride;
  }
};

struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  ConstMatrix() = default;
  // Reading is always allowed where writing is.
  ConstMatrix(const Matrix& m)
      : data(m.data), dtype(m.dtype), rows(m.rows), cols(m.cols), stride(m.stride) {}  // NOLINT

  template <typename T>
  constexpr const T* row(int64_t r) const {
    return static_cast<const T*>(data) + r * stride;
  }
};

// out[i] = row ids[i] of the table.
struct EmbedArgs {
  const EmbeddingWeight* table = nullptr;
  const int32_t* ids = nullptr;  // [out.rows], each in [0, vocabulary)
  Matrix out;                    // [n_tokens, hidden]
};

// out = x / sqrt(mean(x^2) + epsilon) * weight, per row. (Zhang & Sennrich 2019, arXiv 1910.07467)
struct RmsNormArgs {
  ConstMatrix x;                  // [n_tokens, hidden]
  const float* weight = nullptr;  // [hidden]
  float epsilon = 0;
  Matrix out;  // Same shape as x; may be x itself.
};

// out = in * W^T (+ bias) (+ out if accumulate). A row of the result does not depend on which other rows are there:
// the same input row gives the same bits in a batch of any size. With `decode` a device may take another arithmetic,
// one that is fast for few rows; the bits are then the same for any number of such rows.
struct LinearArgs {
  const LinearWeight* weight = nullptr;  // [out_features, in_features]
  const float* bias = nullptr;           // [out_features] or null
  ConstMatrix in;                        // [n_tokens, in_features]
  Matrix out;                            // [n_tokens, out_features]
  bool accumulate = false;
  bool decode = false;
};

// How the two halves of a rotated pair lie in a head: (i, i + D/2) as in Hugging Face weights, or (2i, 2i + 1) as in
// GGUF files of the llama architecture.
enum class RopeLayout : uint8_t { kHalfSplit, kInterleaved };

// The common front of RopeStage and Append: rows of [q | k | v] are split, q and k optionally RMS-normed per head
// (Qwen3), then rotated by their position (Su et al., arXiv 2104.09864).
struct QkvArgs {
  ConstMatrix qkv;                      // [n_tokens, (n_heads + 2 * n_kv_heads) * head_dim]
  const Position* positions = nullptr;  // [n_tokens]
  int32_t n_heads = 0;                  // Query heads; a multiple of n_kv_heads.
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;                      // Even.
  const float* inverse_frequency = nullptr;  // [head_dim / 2]; rope_scaling is already in it.
  float rope_magnitude = 1.0f;               // Factor on the rotated q and k (1 but for YaRN-like scalings).
  RopeLayout layout = RopeLayout::kHalfSplit;
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;  // [head_dim] or null
  float norm_epsilon = 0;
  Matrix q_out;  // [n_tokens, n_heads * head_dim], rotated
};

// K (rotated) and V of ONE layer for the tokens of a prefill group, before eviction. Same dtype as the pages, so that
// prefill, compaction and decode see the same numbers.
struct StagingView {
  void* k = nullptr;           // [n_kv_heads, capacity, head_dim]
  void* v = nullptr;           // [n_kv_heads, capacity, head_dim]
  DType dtype = DType::kBF16;  // kF32 or kBF16
  int32_t capacity = 0;        // Tokens
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
};

// Row i of qkv goes to staging row staging_row + i.
struct RopeStageArgs {
  QkvArgs qkv;
  StagingView staging;
  int32_t staging_row = 0;
};

// One prompt's part of a prefill unit. Query row q_row + i stands at staging row context_row + first + i and sees the
// staging rows [context_row, context_row + first + i] (causal, bottom-right aligned).
struct PrefillSegment {
  int32_t q_row = 0;  // First row of q and out.
  int32_t n_query = 0;
  int32_t context_row = 0;  // Staging row where the prompt begins.
  int32_t first = 0;        // Tokens of the prompt before the first query.
};

// out = softmax(q k^T * scale) v per query head. Results of a row do not depend on chunking or on other segments.
struct PrefillAttentionArgs {
  ConstMatrix q;  // [n_rows, n_heads * head_dim]
  int32_t n_heads = 0;
  StagingView staging;
  const PrefillSegment* segments = nullptr;  // host, [n_segments]; disjoint and ascending in q_row
  int32_t n_segments = 0;
  float scale = 0;  // 1 / sqrt(head_dim) unless the model says otherwise.
  Matrix out;       // [n_rows, n_heads * head_dim]
};

// All KV pages of the device. Page p begins at base + p * 2 * page_tokens * head_dim elements and holds, for ONE kv
// head of one layer of one sequence, K [page_tokens, head_dim] and then V [page_tokens, head_dim].
struct PageStoreView {
  void* base = nullptr;
  DType dtype = DType::kBF16;  // kF32 or kBF16
  int32_t page_tokens = 0;     // Entries per page.
  int32_t head_dim = 0;
  uint32_t n_pages = 0;
};

// The ragged page table. Head h of layer l of slot s has index i = (s * n_layers + l) * n_kv_heads + h; its pages are
// arena[offset[i]...], its length is kept[i] + generated[s]. Only the host writes it.
struct PageTableView {
  const PageId* arena = nullptr;
  const uint32_t* offset = nullptr;    // [n_slots, n_layers, n_kv_heads]
  const int32_t* kept = nullptr;       // [n_slots, n_layers, n_kv_heads], entries left of the prefilled context
  const int32_t* generated = nullptr;  // [n_slots], entries appended since, INCLUDING the rows of the running step
  int32_t n_slots = 0;
  int32_t n_layers = 0;
  int32_t n_kv_heads = 0;
};

// The sequences of a step over pages: sequence i has slot slots[i] and rows [row_start[i], row_start[i + 1]). With n
// rows and a head length of L (as the table says, so including them), row j of the n is entry L - n + j of that head.
struct SequenceRows {
  const int32_t* slots = nullptr;      // [n_sequences]
  const int32_t* row_start = nullptr;  // [n_sequences + 1]
  int32_t n_sequences = 0;
};

// Rotates and writes the new tokens' K and V into their pages.
struct AppendArgs {
  QkvArgs qkv;
  SequenceRows sequences;
  PageTableView table;
  int32_t layer = 0;
  PageStoreView pages;
};

// Attention of the rows of each sequence over its ragged pages; row j of n sees the first L - n + j + 1 entries of each
// head. n == 1 for all is decode; n > 1 is the append path (question after a context, resumed sequences). A row's
// result does not depend on the other rows or sequences.
struct PagedAttentionArgs {
  ConstMatrix q;  // [n_rows, n_heads * head_dim]
  int32_t n_heads = 0;
  SequenceRows sequences;
  PageTableView table;
  int32_t layer = 0;
  PageStoreView pages;
  float scale = 0;
  Matrix out;  // [n_rows, n_heads * head_dim]
};

// Copies kept staging rows of one prompt into the pages of one slot and layer, in the order given. For kv head h:
// entry j of the cache = staging row context_row + kept_rows[kept_offset[h] + j], j < table.kept[...h]. With
// kept_rows == null every head keeps rows 0..kept-1 ("keep all"): eviction off takes the same way.
struct CompactArgs {
  StagingView staging;
  int32_t context_row = 0;
  const int32_t* kept_rows = nullptr;    // [kept_offset[n_kv_heads]], ascending inside a head; or null
  const int32_t* kept_offset = nullptr;  // [n_kv_heads + 1]; or null
  int32_t slot = 0;
  int32_t layer = 0;
  PageTableView table;
  PageStoreView pages;
};

// One page that is to hold what another one holds.
struct PageCopy {
  PageId from = 0;
  PageId to = 0;
};

// Whole pages; no page is both read and written, none written twice.
struct CopyPagesArgs {
  PageStoreView pages;
  const PageCopy* copies = nullptr;  // host, [n_copies]
  int64_t n_copies = 0;
};

// out[:, i] = silu(gate_up[:, i]) * gate_up[:, F + i], i in [0, F).
struct SiluMulArgs {
  ConstMatrix gate_up;  // [n_tokens, 2 * F]
  Matrix out;           // [n_tokens, F]
};

// A word of a table that changes.
struct ScatterUpdate {
  uint32_t index = 0;
  uint32_t value = 0;
};

// to[updates[i].index] = updates[i].value.
struct ScatterArgs {
  uint32_t* to = nullptr;
  const ScatterUpdate* updates = nullptr;  // host, [n_updates]; no index twice
  int64_t n_updates = 0;
};

// out[i] = in[rows[i]].
struct GatherRowsArgs {
  ConstMatrix in;
  const int32_t* rows = nullptr;  // [out.rows]
  Matrix out;
};

}  // namespace lukv
