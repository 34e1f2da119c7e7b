// Costs against numbers computed by hand. Shapes: 4 query heads over 2 kv heads of 8, everything bf16 unless said.
#include "kernels/cost.h"

#include <gtest/gtest.h>

#include <iterator>
#include <ostream>

#include "kernels/backend.h"

namespace lukv {

void PrintTo(const OpCost& cost, std::ostream* out) { *out << cost.bytes << " bytes, " << cost.flops << " flops"; }

namespace {

class FakeLinear final : public LinearWeight {
 public:
  int64_t out_features() const override { return 6; }
  int64_t in_features() const override { return 10; }
  size_t memory_bytes() const override { return 123; }  // Whatever the device's form of it takes.
};

const float kFloats[1] = {};
const int32_t kInts[1] = {};

Matrix Of(int64_t rows, int64_t cols, DType dtype = DType::kBF16) {
  return {.dtype = dtype, .rows = rows, .cols = cols, .stride = cols + 3};  // Gaps between rows do not move.
}

StagingView Staging(DType dtype = DType::kBF16) {
  return {.dtype = dtype, .capacity = 100, .n_kv_heads = 2, .head_dim = 8};
}

PageStoreView Pages(DType dtype = DType::kBF16) {
  return {.dtype = dtype, .page_tokens = 16, .head_dim = 8, .n_pages = 9};
}

PageTableView Table() { return {.n_slots = 3, .n_layers = 1, .n_kv_heads = 2}; }

QkvArgs Qkv(int64_t rows) {
  return {.qkv = Of(rows, 64), .n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .q_out = Of(rows, 32)};
}

StagedContext Context(int32_t n_tokens) { return {.staging = Staging(), .n_tokens = n_tokens}; }

ScoreMatrix Scores(int32_t n_tokens) { return {.n_kv_heads = 2, .n_tokens = n_tokens}; }

TEST(Cost, RowOps) {
  // 3 ids; 3 rows of 10 in and out.
  EXPECT_EQ(CostOf(EmbedArgs{.out = Of(3, 10)}), (OpCost{.bytes = 12 + 2 * 60, .flops = 0}));
  EXPECT_EQ(CostOf(RmsNormArgs{.x = Of(3, 10), .out = Of(3, 10)}),
            (OpCost{.bytes = 60 + 40 + 60, .flops = 3 * 10 * 4}));
  EXPECT_EQ(CostOf(SiluMulArgs{.gate_up = Of(3, 20), .out = Of(3, 10)}),
            (OpCost{.bytes = 120 + 60, .flops = 3 * 10 * 4}));
  EXPECT_EQ(CostOf(GatherRowsArgs{.in = Of(50, 10, DType::kF32), .out = Of(3, 10, DType::kF32)}),
            (OpCost{.bytes = 12 + 2 * 120, .flops = 0}));
  const PageStoreView pages = {.dtype = DType::kBF16, .page_tokens = 4, .head_dim = 8};
  EXPECT_EQ(CostOf(CopyPagesArgs{.pages = pages, .n_copies = 3}), (OpCost{.bytes = 3 * 2 * 2 * 64, .flops = 0}));
  EXPECT_EQ(CostOf(ScatterArgs{.n_updates = 5}), (OpCost{.bytes = 60, .flops = 0}));
}

TEST(Cost, Linear) {
  const FakeLinear weight;
  LinearArgs args{.weight = &weight, .in = Of(3, 10), .out = Of(3, 6)};
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = 123 + 60 + 36, .flops = 360}));
  args.bias = kFloats;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = 123 + 60 + 36 + 24, .flops = 360 + 18}));
  args.accumulate = true;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = 123 + 60 + 2 * 36 + 24, .flops = 360 + 2 * 18}));
  args.out.dtype = DType::kF32;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = 123 + 60 + 2 * 72 + 24, .flops = 360 + 2 * 18}));
}

TEST(Cost, RopeAndAppend) {
  // 5 rows: 64 in, 32 out, 2 * 2 * 8 to K and V; a position each; 4 frequencies. 6 heads turn 8 elements.
  const OpCost plain{.bytes = 640 + 320 + 320 + 20 + 16, .flops = 5 * 6 * 8 * 3};
  RopeStageArgs rope{.qkv = Qkv(5), .staging = Staging()};
  EXPECT_EQ(CostOf(rope), plain);
  EXPECT_EQ(CostOf(AppendArgs{.qkv = Qkv(5), .table = Table(), .pages = Pages()}), plain);
  EXPECT_EQ(CostOf(AppendArgs{.qkv = Qkv(5), .table = Table(), .pages = Pages(DType::kF32)}).bytes, plain.bytes + 320);
  rope.qkv.q_norm = kFloats;
  EXPECT_EQ(CostOf(rope), (OpCost{.bytes = plain.bytes + 32, .flops = plain.flops + 5 * 4 * 8 * 4}));
  rope.qkv.k_norm = kFloats;
  EXPECT_EQ(CostOf(rope), (OpCost{.bytes = plain.bytes + 64, .flops = plain.flops + 5 * 6 * 8 * 4}));
}

TEST(Cost, PrefillAttention) {
  // Rows see 11, 12 and 13 entries; then 1 and 2.
  const PrefillSegment segments[] = {{.q_row = 0, .n_query = 3, .context_row = 20, .first = 10},
                                     {.q_row = 3, .n_query = 2}};
  const PrefillAttentionArgs args{.q = Of(7, 32),
                                  .n_heads = 4,
                                  .staging = Staging(),
                                  .segments = segments,
                                  .n_segments = std::size(segments),
                                  .out = Of(7, 32)};
  // 5 rows of q and out of 64 bytes; 13 + 2 entries of 2 heads, K and V of 16 bytes.
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = 5 * 2 * 64 + 15 * 2 * 2 * 16, .flops = 4 * 8 * 4 * (36 + 3)}));
}

TEST(Cost, PagedAttention) {
  // Decode: sequences whose heads hold 5 and 7, 9 and 2 entries; each is read once and met by 2 query heads.
  PagedAttentionArgs args{.q = Of(2, 32),
                          .n_heads = 4,
                          .sequences = {.n_sequences = 2},
                          .table = Table(),
                          .pages = Pages(),
                          .out = Of(2, 32)};
  EXPECT_EQ(CostOf(args, 23), (OpCost{.bytes = 128 + 128 + 23 * 2 * 16, .flops = 4 * 8 * 2 * 23}));
  // A question of 3 rows on heads of 8 and 5: they see 6, 7, 8 and 3, 4, 5.
  args.q = args.out = Of(3, 32);
  args.sequences.n_sequences = 1;
  EXPECT_EQ(CostOf(args, 13), (OpCost{.bytes = 192 + 192 + 13 * 2 * 16, .flops = 4 * 8 * 2 * 33}));
  const PagedAttentionWeightsArgs weights{.q = args.q,
                                          .n_heads = 4,
                                          .sequences = args.sequences,
                                          .table = Table(),
                                          .pages = Pages(DType::kF32),
                                          .n_entries = 4};
  EXPECT_EQ(CostOf(weights, 13), (OpCost{.bytes = 192 + 13 * 32 + 3 * 4 * 4 * 4, .flops = 2 * 8 * 2 * 33}));
  args.sequences.n_sequences = 0;
  EXPECT_EQ(CostOf(args, 0).flops, 0);
}

TEST(Cost, CompactAndSelect) {
  CompactArgs compact{.staging = Staging(), .table = Table(), .pages = Pages()};
  EXPECT_EQ(CostOf(compact, 11), (OpCost{.bytes = 11 * 4 * 16, .flops = 0}));  // K and V, read and written.
  compact.kept_rows = kInts;
  EXPECT_EQ(CostOf(compact, 11), (OpCost{.bytes = 11 * (4 * 16 + 4), .flops = 0}));
  EXPECT_EQ(CostOf(SelectTopArgs{.scores = Scores(30)}, 11), (OpCost{.bytes = 240 + 12 + 44, .flops = 0}));
  EXPECT_EQ(CostOf(AdaptiveBudgetsArgs{.scores = Scores(30)}), (OpCost{.bytes = 240 + 8, .flops = 0}));
}

TEST(Cost, Sample) {
  SampleArgs args{.logits = Of(8, 100, DType::kF32), .n_rows = 3, .n_adjustments = 2, .max_top = 5};
  const int64_t in = 3 * 400 + 3 * static_cast<int64_t>(sizeof(SampleRow)) + 2 * 16;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = in + 12, .flops = 900}));
  float logprobs[1];
  args.logprobs = logprobs;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = in + 12 + 12 + 3 * 5 * 8, .flops = 900}));
}

TEST(Cost, QueryMoments) {
  // 5 rows of 4 queries of 8; moments of a head: 8 of the pivot, 8 sums, 36 products.
  QueryMomentsArgs args{
      .qkv = Of(9, 64), .row_begin = 2, .row_end = 7, .n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .reset = true};
  const OpCost first{.bytes = 5 * 64 + 128 + 4 * 44 * 4, .flops = 20 * (16 + 72)};
  EXPECT_EQ(CostOf(args), first);
  args.reset = false;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = first.bytes + 4 * 44 * 4, .flops = first.flops}));
  args.q_norm = kFloats;
  EXPECT_EQ(CostOf(args), (OpCost{.bytes = first.bytes + 4 * 44 * 4 + 32, .flops = first.flops + 20 * 32}));
}

TEST(Cost, Scores) {
  // 30 entries of 2 heads: 960 bytes of K, as many of V, 240 of scores.
  EXPECT_EQ(CostOf(ScoreExpectedAttentionArgs{.context = Context(30), .n_heads = 4, .scores = Scores(30)}),
            (OpCost{.bytes = 1920 + 4 * 52 * 4 + 16 + 240, .flops = 30 * (4 * (128 + 32) + 2 * 16)}));
  // Of 6 queries the first sees 25 entries, the last 30.
  EXPECT_EQ(CostOf(ScoreSnapKvArgs{.context = Context(30), .n_heads = 4, .window_q = Of(6, 32), .scores = Scores(30)}),
            (OpCost{.bytes = 960 + 384 + 240, .flops = 2 * 8 * 4 * (25 + 26 + 27 + 28 + 29 + 30)}));
  EXPECT_EQ(CostOf(ScoreKeyDiffArgs{.context = Context(30), .scores = Scores(30)}),
            (OpCost{.bytes = 960 + 240, .flops = 60 * 48}));
  EXPECT_EQ(CostOf(ScoreKeyNormArgs{.context = Context(30), .scores = Scores(30)}),
            (OpCost{.bytes = 960 + 240, .flops = 60 * 16}));
}

}  // namespace
}  // namespace lukv
