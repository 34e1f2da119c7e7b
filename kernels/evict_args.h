// Arguments of the ops that decide what a layer keeps of a prompt: statistics of its queries, scores of its entries,
// budgets across heads, and the choice itself. As in args.h, pointers are device pointers unless said otherwise.
#pragma once

#include <cstdint>

#include "kernels/args.h"

namespace lukv {

// The entries of one prompt in a layer's staging: rows [context_row, context_row + n_tokens).
struct StagedContext {
  StagingView staging;
  int32_t context_row = 0;
  int32_t n_tokens = 0;
};

// Worth of every entry of one layer, [n_kv_heads, n_tokens] without gaps; higher is kept. Not a number counts as the
// least.
struct ScoreMatrix {
  float* data = nullptr;
  int32_t n_kv_heads = 0;
  int32_t n_tokens = 0;
};

// First and second moments of a prompt's queries BEFORE RoPE, one set per query head. Sums are taken of q - pivot, so
// that a large common part (a bias) costs no accuracy; the pivot is the first query that was counted. The sums go up
// by one query after the other, so that their bits do not depend on the chunks.
struct QueryMoments {
  float* pivot = nullptr;     // [n_heads, head_dim]
  float* sum = nullptr;       // [n_heads, head_dim]
  float* products = nullptr;  // [n_heads, head_dim, head_dim]; only elements [i][j] with j >= i are defined.
};

// Adds rows [row_begin, row_end) of qkv (layout as in QkvArgs; the query part is RMS-normed per head first where q_norm
// is given). `reset`: these are the first rows; what the moments held is dropped.
struct QueryMomentsArgs {
  ConstMatrix qkv;
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  const float* q_norm = nullptr;
  float norm_epsilon = 0;
  bool reset = false;
  QueryMoments moments;
};

// ExpectedAttention (kvpress): with the mean m and the covariance S (divided by `count`) of the queries, both turned by
// the average RoPE rotation of the positions [next_position, next_position + n_future): per query head
//   a = softmax over the entries from n_first on of (scale * k.m + scale^2 / 2 * k'Sk),
// mean over the query heads of a kv head, then (a + epsilon) * |v|. The first n_first entries get the layer's greatest
// score + 1.
struct ScoreExpectedAttentionArgs {
  StagedContext context;
  int32_t n_heads = 0;
  QueryMoments moments;
  int64_t count = 0;  // Queries in the moments; >= 1.
  const float* inverse_frequency = nullptr;
  float rope_magnitude = 1.0f;
  RopeLayout layout = RopeLayout::kHalfSplit;
  Position next_position{};
  int32_t n_future = 512;
  int32_t n_first = 4;  // May exceed n_tokens: then all get the same score.
  float epsilon = 0;
  float scale = 0;  // Of attention.
  ScoreMatrix scores;
};

enum class Pooling : uint8_t { kMax, kAverage };

// SnapKV (arXiv 2404.14469): softmax attention of the context's last queries (causal among themselves) over its
// entries, mean over the queries, pooled over positions with a centred kernel (average: zero-padded, always divided by
// `kernel`), mean over the query heads of a kv head. Pooling sees only entries before the window. The window's own
// entries get the layer's greatest score + 1.
struct ScoreSnapKvArgs {
  StagedContext context;
  int32_t n_heads = 0;
  ConstMatrix window_q;  // [window, n_heads * head_dim], rotated: the last `window` <= n_tokens queries of the context.
  int32_t kernel = 0;    // Odd.
  Pooling pooling = Pooling::kMax;
  float scale = 0;
  ScoreMatrix scores;
};

// KeyDiff (arXiv 2504.15364): minus the cosine similarity of each key with the mean of the L2-normalised keys.
struct ScoreKeyDiffArgs {
  StagedContext context;
  ScoreMatrix scores;
};

// Minus the L2 norm of each key (arXiv 2406.11430).
struct ScoreKeyNormArgs {
  StagedContext context;
  ScoreMatrix scores;
};

// AdaKV (arXiv 2407.11550): each head is sure of its `n_safe` best entries; what is left of n_kv_heads * n_kept goes to
// the best entries of all heads together. budgets[h] is how many head h gets. The first `sink` and the last `window`
// entries count as better than any score; ties go to the lower head, then to the lower entry.
struct AdaptiveBudgetsArgs {
  ScoreMatrix scores;
  int32_t sink = 0;
  int32_t window = 0;
  int32_t n_kept = 0;          // Mean over the heads; in [1, n_tokens].
  int32_t n_safe = 0;          // In [0, n_kept].
  int32_t* budgets = nullptr;  // [n_kv_heads]
};

// The best entries of each head: head h's kept_rows[kept_offset[h], kept_offset[h + 1]) become the entries with the
// highest scores, ASCENDING by entry; ties go to the lower entry. The first `sink` and the last `window` entries count
// as better than any score. REQUIRES: each head's count is in [0, n_tokens].
struct SelectTopArgs {
  ScoreMatrix scores;
  int32_t sink = 0;
  int32_t window = 0;
  const int32_t* kept_offset = nullptr;  // [n_kv_heads + 1]
  int32_t* kept_rows = nullptr;          // [kept_offset[n_kv_heads]]
};

// The softmax weights that PagedAttention gives (over all entries that a row sees), of each head's first n_entries:
// out[(row * n_heads + head) * n_entries + e]. For offline analysis. REQUIRES: every row sees at least n_entries.
struct PagedAttentionWeightsArgs {
  ConstMatrix q;  // [n_rows, n_heads * head_dim], rotated
  int32_t n_heads = 0;
  SequenceRows sequences;
  PageTableView table;
  int32_t layer = 0;
  PageStoreView pages;
  float scale = 0;
  int32_t n_entries = 0;
  float* out = nullptr;
};

}  // namespace lukv
