#include "kernels/backend.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "kernels/argument_checks.h"

namespace lukv {
namespace {

void CheckQkv(const QkvArgs& qkv, DType activation, Checks& checks) {
  checks.Heads(qkv.n_heads, qkv.n_kv_heads);
  checks.HeadDim(qkv.head_dim, "head_dim");
  checks.IsMatrix(qkv.qkv, activation, "qkv");
  checks.HasCols(qkv.qkv, (int64_t{qkv.n_heads} + 2 * int64_t{qkv.n_kv_heads}) * qkv.head_dim, "qkv");
  checks.IsMatrix(qkv.q_out, activation, "q_out");
  checks.SameRows(qkv.q_out, qkv.qkv, "q_out");
  checks.HasCols(qkv.q_out, int64_t{qkv.n_heads} * qkv.head_dim, "q_out");
  checks.Require(qkv.qkv.rows == 0 || qkv.positions != nullptr, "positions", "is null");
  checks.Present(qkv.inverse_frequency, "inverse_frequency");
  checks.Finite(qkv.rope_magnitude, "rope_magnitude");
  checks.Require(qkv.norm_epsilon >= 0, "norm_epsilon", "is ", qkv.norm_epsilon);
}

void CheckOutLikeQueries(const ConstMatrix& q, const Matrix& out, DType activation, Checks& checks) {
  checks.IsMatrix(out, activation, "out");
  checks.SameRows(out, q, "out");
  checks.HasCols(out, q.cols, "out");
}

void CheckSegments(const PrefillAttentionArgs& args, Checks& checks) {
  checks.Require(args.n_segments >= 0, "n_segments", "is ", args.n_segments);
  checks.Require(args.n_segments <= 0 || args.segments != nullptr, "segments", "is null");
  if (!checks.ok()) return;
  int64_t next_row = 0;
  for (int32_t i = 0; i < args.n_segments; ++i) {
    const PrefillSegment& s = args.segments[i];
    const auto name = [&](absl::string_view member) { return absl::StrCat("segments[", i, "].", member); };
    checks.Require(s.n_query >= 0, name("n_query"), "is ", s.n_query);
    checks.Require(s.q_row >= next_row, name("q_row"), "is ", s.q_row, ", must be at least ", next_row,
                   ": segments are disjoint and ascending");
    next_row = int64_t{s.q_row} + s.n_query;
    checks.Require(next_row <= args.q.rows, name("n_query"), "reaches row ", next_row, " of ", args.q.rows);
    checks.Require(s.context_row >= 0, name("context_row"), "is ", s.context_row);
    checks.Require(s.first >= 0, name("first"), "is ", s.first);
    const int64_t end = int64_t{s.context_row} + s.first + s.n_query;
    checks.Require(end <= args.staging.capacity, name("n_query"), "reaches staging row ", end, " of ",
                   args.staging.capacity);
    if (!checks.ok()) return;
  }
}

}  // namespace

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  if (this != &other) {
    Reset();
    backend_ = std::exchange(other.backend_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void DeviceBuffer::Reset() {
  if (data_ != nullptr) backend_->Free(data_, bytes_);
  backend_ = nullptr;
  data_ = nullptr;
  bytes_ = 0;
}

absl::Status Backend::Embed(const EmbedArgs& args) {
  Checks checks("Embed");
  checks.Present(args.table, "table");
  checks.IsMatrix(args.out, activation_dtype(), "out");
  checks.Require(args.out.rows <= 0 || args.ids != nullptr, "ids", "is null");
  if (checks.ok()) checks.HasCols(args.out, args.table->hidden(), "out");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.out.rows == 0 ? absl::OkStatus() : DoEmbed(args);
}

absl::Status Backend::RmsNorm(const RmsNormArgs& args) {
  Checks checks("RmsNorm");
  checks.IsMatrix(args.x, activation_dtype(), "x");
  checks.IsMatrix(args.out, activation_dtype(), "out");
  checks.SameRows(args.out, args.x, "out");
  checks.HasCols(args.out, args.x.cols, "out");
  checks.Present(args.weight, "weight");
  checks.Require(args.epsilon >= 0, "epsilon", "is ", args.epsilon);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.x.rows == 0 ? absl::OkStatus() : DoRmsNorm(args);
}

absl::Status Backend::Linear(const LinearArgs& args) {
  Checks checks("Linear");
  checks.Present(args.weight, "weight");
  checks.IsMatrix(args.in, activation_dtype(), "in");
  // Logits are kF32 on every backend.
  checks.IsMatrix(args.out, args.out.dtype == DType::kF32 ? DType::kF32 : activation_dtype(), "out");
  checks.SameRows(args.out, args.in, "out");
  checks.Require(args.in.rows <= 0 || args.out.data != args.in.data, "out", "must not be in");
  if (checks.ok()) {
    checks.HasCols(args.in, args.weight->in_features(), "in");
    checks.HasCols(args.out, args.weight->out_features(), "out");
  }
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.in.rows == 0 ? absl::OkStatus() : DoLinear(args);
}

absl::Status Backend::RopeStage(const RopeStageArgs& args) {
  Checks checks("RopeStage");
  CheckQkv(args.qkv, activation_dtype(), checks);
  CheckStaging(args.staging, checks);
  checks.Equal(args.staging.n_kv_heads, args.qkv.n_kv_heads, "staging.n_kv_heads");
  checks.Equal(args.staging.head_dim, args.qkv.head_dim, "staging.head_dim");
  checks.Require(args.staging_row >= 0, "staging_row", "is ", args.staging_row);
  checks.Require(args.staging_row + args.qkv.qkv.rows <= args.staging.capacity, "staging_row", "is ", args.staging_row,
                 ": ", args.qkv.qkv.rows, " rows do not fit in ", args.staging.capacity);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.qkv.qkv.rows == 0 ? absl::OkStatus() : DoRopeStage(args);
}

absl::Status Backend::PrefillAttention(const PrefillAttentionArgs& args) {
  Checks checks("PrefillAttention");
  CheckStaging(args.staging, checks);
  CheckQueries(args.q, args.n_heads, args.staging.n_kv_heads, args.staging.head_dim, args.scale, activation_dtype(),
               checks);
  CheckOutLikeQueries(args.q, args.out, activation_dtype(), checks);
  CheckSegments(args, checks);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.q.rows == 0 || args.n_segments == 0 ? absl::OkStatus() : DoPrefillAttention(args);
}

absl::Status Backend::Append(const AppendArgs& args) {
  Checks checks("Append");
  CheckQkv(args.qkv, activation_dtype(), checks);
  CheckTable(args.table, args.layer, checks);
  CheckPages(args.pages, checks);
  CheckSequences(args.sequences, args.qkv.qkv.rows, args.table, checks);
  checks.Equal(args.table.n_kv_heads, args.qkv.n_kv_heads, "table.n_kv_heads");
  checks.Equal(args.pages.head_dim, args.qkv.head_dim, "pages.head_dim");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.qkv.qkv.rows == 0 ? absl::OkStatus() : DoAppend(args);
}

absl::Status Backend::PagedAttention(const PagedAttentionArgs& args) {
  Checks checks("PagedAttention");
  CheckTable(args.table, args.layer, checks);
  CheckPages(args.pages, checks);
  CheckQueries(args.q, args.n_heads, args.table.n_kv_heads, args.pages.head_dim, args.scale, activation_dtype(),
               checks);
  CheckOutLikeQueries(args.q, args.out, activation_dtype(), checks);
  CheckSequences(args.sequences, args.q.rows, args.table, checks);
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.q.rows == 0 ? absl::OkStatus() : DoPagedAttention(args);
}

absl::Status Backend::Compact(const CompactArgs& args) {
  Checks checks("Compact");
  CheckStaging(args.staging, checks);
  CheckTable(args.table, args.layer, checks);
  CheckPages(args.pages, checks);
  checks.InRange(args.context_row, 0, args.staging.capacity, "context_row");
  checks.InRange(args.slot, 0, args.table.n_slots, "slot");
  checks.Equal(args.table.n_kv_heads, args.staging.n_kv_heads, "table.n_kv_heads");
  checks.Equal(args.pages.head_dim, args.staging.head_dim, "pages.head_dim");
  checks.Require(args.pages.dtype == args.staging.dtype, "pages.dtype", "is not the staging's");
  checks.Require((args.kept_rows == nullptr) == (args.kept_offset == nullptr), "kept_offset",
                 "and kept_rows must both be given or both be null");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return DoCompact(args);
}

absl::Status Backend::CopyPages(const CopyPagesArgs& args) {
  Checks checks("CopyPages");
  CheckPages(args.pages, checks);
  checks.NotNegative(args.n_copies, "n_copies");
  checks.Require(args.n_copies <= 0 || args.copies != nullptr, "copies", "is null");
  for (int64_t i = 0; i < args.n_copies && args.copies != nullptr; ++i) {
    checks.InRange(args.copies[i].from, 0, args.pages.n_pages, "copies.from");
    checks.InRange(args.copies[i].to, 0, args.pages.n_pages, "copies.to");
  }
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.n_copies == 0 ? absl::OkStatus() : DoCopyPages(args);
}

absl::Status Backend::SiluMul(const SiluMulArgs& args) {
  Checks checks("SiluMul");
  checks.IsMatrix(args.gate_up, activation_dtype(), "gate_up");
  checks.IsMatrix(args.out, activation_dtype(), "out");
  checks.SameRows(args.out, args.gate_up, "out");
  checks.HasCols(args.gate_up, 2 * args.out.cols, "gate_up");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.out.rows == 0 ? absl::OkStatus() : DoSiluMul(args);
}

absl::Status Backend::GatherRows(const GatherRowsArgs& args) {
  Checks checks("GatherRows");
  checks.IsMatrix(args.in, activation_dtype(), "in");
  checks.IsMatrix(args.out, activation_dtype(), "out");
  checks.HasCols(args.out, args.in.cols, "out");
  checks.Require(args.out.rows <= 0 || args.rows != nullptr, "rows", "is null");
  checks.Require(args.out.rows <= 0 || args.in.rows > 0, "in", "has no rows");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.out.rows == 0 ? absl::OkStatus() : DoGatherRows(args);
}

absl::Status Backend::Sample(const SampleArgs& args) {
  Checks checks("Sample");
  checks.IsMatrix(args.logits, DType::kF32, "logits");
  checks.NotNegative(args.n_rows, "n_rows");
  checks.NotNegative(args.n_adjustments, "n_adjustments");
  checks.InRange(args.max_top, 0, int64_t{kMaxTopTokens} + 1, "max_top");
  checks.Require(args.max_top <= args.logits.cols, "max_top", "is ", args.max_top, " of ", args.logits.cols, " tokens");
  checks.Require(args.n_rows <= 0 || (args.rows != nullptr && args.logits.rows > 0), "rows", "is null, or no logits");
  checks.Require(args.n_adjustments <= 0 || args.adjustments != nullptr, "adjustments", "is null");
  checks.Require(args.n_rows <= 0 || args.tokens != nullptr, "tokens", "is null");
  checks.Require(
      args.max_top <= 0 || (args.logprobs != nullptr && args.top_tokens != nullptr && args.top_logprobs != nullptr),
      "max_top", "needs logprobs, top_tokens and top_logprobs");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.n_rows == 0 ? absl::OkStatus() : DoSample(args);
}

absl::Status Backend::Scatter(const ScatterArgs& args) {
  Checks checks("Scatter");
  checks.NotNegative(args.n_updates, "n_updates");
  checks.Require(args.n_updates <= 0 || args.to != nullptr, "to", "is null");
  checks.Require(args.n_updates <= 0 || args.updates != nullptr, "updates", "is null");
  LUKV_RETURN_IF_ERROR(std::move(checks).status());
  return args.n_updates == 0 ? absl::OkStatus() : DoScatter(args);
}

}  // namespace lukv
