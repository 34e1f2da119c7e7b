#include "kernels/cost.h"

#include "kernels/backend.h"

namespace lukv {
namespace {

constexpr int64_t kWord = 4;       // f32, int32, page ids
constexpr int64_t kNormFlops = 4;  // Square, add, times the factor, times the weight.

int64_t ElementBytes(DType dtype) { return Traits(dtype).block_bytes; }

int64_t Bytes(const ConstMatrix& m) { return m.rows * m.cols * ElementBytes(m.dtype); }

int64_t KvRowBytes(const StagingView& staging) { return int64_t{staging.head_dim} * ElementBytes(staging.dtype); }
int64_t KvRowBytes(const PageStoreView& pages) { return pages.head_dim * ElementBytes(pages.dtype); }

// n + (n - 1) + ... + 1
int64_t Triangle(int64_t n) { return n * (n + 1) / 2; }

// The front of RopeStage and Append, with the K and V that it writes.
OpCost CostOfQkv(const QkvArgs& args, int64_t kv_row_bytes) {
  const int64_t rows = args.qkv.rows;
  const int64_t norms = (args.q_norm != nullptr ? 1 : 0) + (args.k_norm != nullptr ? 1 : 0);
  OpCost cost;
  cost.bytes = Bytes(args.qkv) + Bytes(args.q_out) + rows * kWord + (args.head_dim / 2) * kWord +
               norms * args.head_dim * kWord + 2 * rows * args.n_kv_heads * kv_row_bytes;
  // A pair takes four products and two sums.
  cost.flops = rows * (int64_t{args.n_heads} + args.n_kv_heads) * args.head_dim * 3;
  if (args.q_norm != nullptr) cost.flops += rows * args.n_heads * args.head_dim * kNormFlops;
  if (args.k_norm != nullptr) cost.flops += rows * args.n_kv_heads * args.head_dim * kNormFlops;
  return cost;
}

// (Row, entry) pairs that meet in attention over pages, of all kv heads.
int64_t VisiblePairs(int64_t rows, int64_t n_kv_heads, int64_t n_sequences, int64_t entries) {
  if (n_sequences == 0) return 0;
  const int64_t n = rows / n_sequences;
  return entries * n - n_kv_heads * n_sequences * Triangle(n - 1);
}

int64_t MomentsWords(int64_t n_heads, int64_t head_dim) { return n_heads * (head_dim + Triangle(head_dim)); }

int64_t ScoreBytes(const ScoreMatrix& scores) { return int64_t{scores.n_kv_heads} * scores.n_tokens * kWord; }

}  // namespace

OpCost CostOf(const EmbedArgs& args) { return {.bytes = args.out.rows * kWord + 2 * Bytes(args.out)}; }

OpCost CostOf(const RmsNormArgs& args) {
  return {.bytes = Bytes(args.x) + args.x.cols * kWord + Bytes(args.out),
          .flops = args.x.rows * args.x.cols * kNormFlops};
}

OpCost CostOf(const LinearArgs& args) {
  const int64_t outputs = args.out.rows * args.out.cols;
  OpCost cost{.bytes = static_cast<int64_t>(args.weight->memory_bytes()) + Bytes(args.in) + Bytes(args.out),
              .flops = 2 * outputs * args.in.cols};
  if (args.bias != nullptr) cost += {.bytes = args.out.cols * kWord, .flops = outputs};
  if (args.accumulate) cost += {.bytes = Bytes(args.out), .flops = outputs};
  return cost;
}

OpCost CostOf(const RopeStageArgs& args) { return CostOfQkv(args.qkv, KvRowBytes(args.staging)); }

OpCost CostOf(const PrefillAttentionArgs& args) {
  const int64_t head_dim = args.staging.head_dim;
  OpCost cost;
  for (int32_t i = 0; i < args.n_segments; ++i) {
    const PrefillSegment& s = args.segments[i];
    const int64_t n = s.n_query;
    cost.bytes += 2 * n * args.n_heads * head_dim * ElementBytes(args.q.dtype) +
                  2 * (s.first + n) * args.staging.n_kv_heads * KvRowBytes(args.staging);
    cost.flops += 4 * head_dim * args.n_heads * (n * s.first + Triangle(n));
  }
  return cost;
}

OpCost CostOf(const AppendArgs& args) { return CostOfQkv(args.qkv, KvRowBytes(args.pages)); }

OpCost CostOf(const PagedAttentionArgs& args, int64_t entries) {
  const int64_t group = args.n_heads / args.table.n_kv_heads;
  return {.bytes = Bytes(args.q) + Bytes(args.out) + entries * 2 * KvRowBytes(args.pages),
          .flops = int64_t{4} * args.pages.head_dim * group *
                   VisiblePairs(args.q.rows, args.table.n_kv_heads, args.sequences.n_sequences, entries)};
}

OpCost CostOf(const PagedAttentionWeightsArgs& args, int64_t entries) {
  const int64_t group = args.n_heads / args.table.n_kv_heads;
  return {
      .bytes = Bytes(args.q) + entries * KvRowBytes(args.pages) + args.q.rows * args.n_heads * args.n_entries * kWord,
      .flops = int64_t{2} * args.pages.head_dim * group *
               VisiblePairs(args.q.rows, args.table.n_kv_heads, args.sequences.n_sequences, entries)};
}

OpCost CostOf(const CompactArgs& args, int64_t entries) {
  return {.bytes = entries * (4 * KvRowBytes(args.pages) + (args.kept_rows != nullptr ? kWord : 0))};
}

OpCost CostOf(const CopyPagesArgs& args) {
  // K and V, read and written.
  return {.bytes = args.n_copies * 4 * args.pages.page_tokens * KvRowBytes(args.pages)};
}

OpCost CostOf(const SiluMulArgs& args) {
  // Exponential, sum, quotient, product.
  return {.bytes = Bytes(args.gate_up) + Bytes(args.out), .flops = 4 * args.out.rows * args.out.cols};
}

OpCost CostOf(const GatherRowsArgs& args) { return {.bytes = args.out.rows * kWord + 2 * Bytes(args.out)}; }

OpCost CostOf(const ScatterArgs& args) {
  return {.bytes = args.n_updates * (static_cast<int64_t>(sizeof(ScatterUpdate)) + kWord)};
}

OpCost CostOf(const SampleArgs& args) {
  const int64_t rows = args.n_rows;
  int64_t words = rows;
  if (args.logprobs != nullptr) words += rows + 2 * rows * args.max_top;
  // Of each logit: minus the greatest, exponential, sum.
  return {.bytes = rows * args.logits.cols * kWord + rows * static_cast<int64_t>(sizeof(SampleRow)) +
                   args.n_adjustments * static_cast<int64_t>(sizeof(TokenAdjustment)) + words * kWord,
          .flops = 3 * rows * args.logits.cols};
}

OpCost CostOf(const QueryMomentsArgs& args) {
  const int64_t rows = args.row_end - args.row_begin;
  const int64_t queries = rows * args.n_heads;
  OpCost cost;
  // The pivot goes one way, the sums both but for the first rows.
  cost.bytes = queries * args.head_dim * ElementBytes(args.qkv.dtype) + int64_t{args.n_heads} * args.head_dim * kWord +
               (args.reset ? 1 : 2) * MomentsWords(args.n_heads, args.head_dim) * kWord;
  // Minus the pivot, the sum, and a multiply and add for each of the products.
  cost.flops = queries * (2 * int64_t{args.head_dim} + 2 * Triangle(args.head_dim));
  if (args.q_norm != nullptr) cost += {.bytes = args.head_dim * kWord, .flops = queries * args.head_dim * kNormFlops};
  return cost;
}

OpCost CostOf(const ScoreExpectedAttentionArgs& args) {
  const StagingView& staging = args.context.staging;
  const int64_t head_dim = staging.head_dim;
  const int64_t heads = args.n_heads;
  const int64_t kv_heads = staging.n_kv_heads;
  const int64_t entries = args.context.n_tokens;
  OpCost cost;
  cost.bytes = 2 * entries * kv_heads * KvRowBytes(staging) +
               (heads * head_dim + MomentsWords(heads, head_dim) + head_dim / 2) * kWord + ScoreBytes(args.scores);
  // Of each key with each query head k'S, its product with k, and k.m; of each value its norm.
  cost.flops = entries * (heads * (2 * head_dim * head_dim + 4 * head_dim) + kv_heads * 2 * head_dim);
  return cost;
}

OpCost CostOf(const ScoreSnapKvArgs& args) {
  const StagingView& staging = args.context.staging;
  const int64_t entries = args.context.n_tokens;
  const int64_t window = args.window_q.rows;
  const int64_t pairs = window * (entries - window) + Triangle(window);
  return {.bytes = entries * staging.n_kv_heads * KvRowBytes(staging) + Bytes(args.window_q) + ScoreBytes(args.scores),
          .flops = 2 * pairs * args.n_heads * staging.head_dim};
}

OpCost CostOf(const ScoreKeyDiffArgs& args) {
  const StagingView& staging = args.context.staging;
  const int64_t keys = int64_t{args.context.n_tokens} * staging.n_kv_heads;
  // Norm, sum of the normalised keys, product with it: a multiply and add each.
  return {.bytes = keys * KvRowBytes(staging) + ScoreBytes(args.scores), .flops = keys * staging.head_dim * 6};
}

OpCost CostOf(const ScoreKeyNormArgs& args) {
  const StagingView& staging = args.context.staging;
  const int64_t keys = int64_t{args.context.n_tokens} * staging.n_kv_heads;
  return {.bytes = keys * KvRowBytes(staging) + ScoreBytes(args.scores), .flops = keys * staging.head_dim * 2};
}

OpCost CostOf(const AdaptiveBudgetsArgs& args) {
  return {.bytes = ScoreBytes(args.scores) + args.scores.n_kv_heads * kWord};
}

OpCost CostOf(const SelectTopArgs& args, int64_t entries) {
  return {.bytes = ScoreBytes(args.scores) + (args.scores.n_kv_heads + 1 + entries) * kWord};
}

}  // namespace lukv
