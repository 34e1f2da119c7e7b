// Argument checks of the ops of eviction.
#include <cmath>
#include <cstdint>
#include <utility>

#include "base/status_macros.h"
#include "kernels/argument_checks.h"
#include "kernels/backend.h"

namespace lukv {
namespace {

void CheckMoments(const QueryMoments& moments, Checks& checks) {
  checks.Present(moments.pivot, "moments.pivot");
  checks.Present(moments.sum, "moments.sum");
  checks.Present(moments.products, "moments.products");
}

void CheckScores(const ScoreMatrix& scores, Checks& checks) {
  checks.Present(scores.data, "scores.data");
  checks.Positive(scores.n_kv_heads, "scores.n_kv_heads");
  checks.Positive(scores.n_tokens, "scores.n_tokens");
}

// The entries to be scored, and room for their scores.
void CheckScoring(const StagedContext& context, const ScoreMatrix& scores, Checks& checks) {
  CheckStaging(context.staging, checks);
  checks.NotNegative(context.context_row, "context_row");
  checks.Positive(context.n_tokens, "n_tokens");
  checks.Require(int64_t{context.context_row} + context.n_tokens <= context.staging.capacity, "n_tokens", "is ",
                 context.n_tokens, " from row ", context.context_row, ", staging has ", context.staging.capacity);
  CheckScores(scores, checks);
  checks.Equal(scores.n_kv_heads, context.staging.n_kv_heads, "scores.n_kv_heads");
  checks.Equal(scores.n_tokens, context.n_tokens, "scores.n_tokens");
}

void CheckProtection(int32_t sink, int32_t window, Checks& checks) {
  checks.NotNegative(sink, "sink");
  checks.NotNegative(window, "window");
}

}  // namespace

absl::Status Backend::QueryMoments(const QueryMomentsArgs& args) {
  Checks checks("QueryMoments");
  checks.Heads(args.n_heads, args.n_kv_heads);
  checks.HeadDim(args.head_dim, "head_dim");
  checks.IsMatrix(args.qkv, activation_dtype(), "qkv");
  checks.HasCols(args.qkv, (int64_t{args.n_heads} + 2 * int64_t{args.n_kv_heads}) * args.head_dim, "qkv");
  checks.InRange(args.row_begin, 0, args.qkv.rows + 1, "row_begin");
  checks.InRange(args.row_end, args.row_begin, args.qkv.rows + 1, "row_end");
  checks.Require(!args.reset || args.row_end > args.row_begin, "reset", "needs a first row");
  checks.Require(args.norm_epsilon >= 0, "norm_epsilon", "is ", args.norm_epsilon);
  CheckMoments(args.moments, checks);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.row_end == args.row_begin ? absl::OkStatus() : DoQueryMoments(args);
}

absl::Status Backend::ScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) {
  Checks checks("ScoreExpectedAttention");
  CheckScoring(args.context, args.scores, checks);
  checks.Heads(args.n_heads, args.context.staging.n_kv_heads);
  CheckMoments(args.moments, checks);
  checks.Positive(args.count, "count");
  checks.Present(args.inverse_frequency, "inverse_frequency");
  checks.Finite(args.rope_magnitude, "rope_magnitude");
  checks.NotNegative(Value(args.next_position), "next_position");
  checks.Positive(args.n_future, "n_future");
  checks.NotNegative(args.n_first, "n_first");
  checks.Require(std::isfinite(args.epsilon) && args.epsilon >= 0, "epsilon", "is ", args.epsilon);
  checks.PositiveFinite(args.scale, "scale");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoScoreExpectedAttention(args);
}

absl::Status Backend::ScoreSnapKv(const ScoreSnapKvArgs& args) {
  Checks checks("ScoreSnapKv");
  CheckScoring(args.context, args.scores, checks);
  checks.Heads(args.n_heads, args.context.staging.n_kv_heads);
  checks.IsMatrix(args.window_q, activation_dtype(), "window_q");
  checks.HasCols(args.window_q, int64_t{args.n_heads} * args.context.staging.head_dim, "window_q");
  checks.Require(args.window_q.rows >= 1 && args.window_q.rows <= args.context.n_tokens, "window_q", "has ",
                 args.window_q.rows, " rows for ", args.context.n_tokens, " tokens");
  checks.Require(args.kernel > 0 && args.kernel % 2 == 1, "kernel", "is ", args.kernel, ", must be odd and positive");
  checks.Require(args.pooling == Pooling::kMax || args.pooling == Pooling::kAverage, "pooling", "is ",
                 static_cast<int>(args.pooling));
  checks.PositiveFinite(args.scale, "scale");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoScoreSnapKv(args);
}

absl::Status Backend::ScoreKeyDiff(const ScoreKeyDiffArgs& args) {
  Checks checks("ScoreKeyDiff");
  CheckScoring(args.context, args.scores, checks);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoScoreKeyDiff(args);
}

absl::Status Backend::ScoreKeyNorm(const ScoreKeyNormArgs& args) {
  Checks checks("ScoreKeyNorm");
  CheckScoring(args.context, args.scores, checks);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoScoreKeyNorm(args);
}

absl::Status Backend::AdaptiveBudgets(const AdaptiveBudgetsArgs& args) {
  Checks checks("AdaptiveBudgets");
  CheckScores(args.scores, checks);
  CheckProtection(args.sink, args.window, checks);
  checks.InRange(args.n_kept, 1, int64_t{args.scores.n_tokens} + 1, "n_kept");
  checks.InRange(args.n_safe, 0, int64_t{args.n_kept} + 1, "n_safe");
  checks.Present(args.budgets, "budgets");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoAdaptiveBudgets(args);
}

absl::Status Backend::SelectTop(const SelectTopArgs& args) {
  Checks checks("SelectTop");
  CheckScores(args.scores, checks);
  CheckProtection(args.sink, args.window, checks);
  checks.Present(args.kept_offset, "kept_offset");
  checks.Present(args.kept_rows, "kept_rows");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoSelectTop(args);
}

absl::Status Backend::PagedAttentionWeights(const PagedAttentionWeightsArgs& args) {
  Checks checks("PagedAttentionWeights");
  CheckTable(args.table, args.layer, checks);
  CheckPages(args.pages, checks);
  CheckQueries(args.q, args.n_heads, args.table.n_kv_heads, args.pages.head_dim, args.scale, activation_dtype(),
               checks);
  CheckSequences(args.sequences, args.q.rows, args.table, checks);
  checks.Positive(args.n_entries, "n_entries");
  checks.Require(args.q.rows == 0 || args.out != nullptr, "out", "is null");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.q.rows == 0 ? absl::OkStatus() : DoPagedAttentionWeights(args);
}

}  // namespace lukv
