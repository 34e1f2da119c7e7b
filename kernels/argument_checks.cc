#include "kernels/argument_checks.h"

#include "absl/strings/str_format.h"

namespace lukv {

void CheckStaging(const StagingView& staging, Checks& checks) {
  checks.Present(staging.k, "staging.k");
  checks.Present(staging.v, "staging.v");
  checks.KvDtype(staging.dtype, "staging.dtype");
  checks.Positive(staging.capacity, "staging.capacity");
  checks.Positive(staging.n_kv_heads, "staging.n_kv_heads");
  checks.HeadDim(staging.head_dim, "staging.head_dim");
}

void CheckPages(const PageStoreView& pages, Checks& checks) {
  checks.Present(pages.base, "pages.base");
  checks.KvDtype(pages.dtype, "pages.dtype");
  checks.Positive(pages.page_tokens, "pages.page_tokens");
  checks.HeadDim(pages.head_dim, "pages.head_dim");
  checks.Positive(pages.n_pages, "pages.n_pages");
}

void CheckTable(const PageTableView& table, int32_t layer, Checks& checks) {
  checks.Present(table.arena, "table.arena");
  checks.Present(table.offset, "table.offset");
  checks.Present(table.kept, "table.kept");
  checks.Present(table.generated, "table.generated");
  checks.Positive(table.n_slots, "table.n_slots");
  checks.Positive(table.n_layers, "table.n_layers");
  checks.Positive(table.n_kv_heads, "table.n_kv_heads");
  checks.InRange(layer, 0, table.n_layers, "layer");
}

void CheckSequences(const SequenceRows& sequences, int64_t rows, const PageTableView& table, Checks& checks) {
  checks.InRange(sequences.n_sequences, rows == 0 ? 0 : 1, int64_t{table.n_slots} + 1, "sequences.n_sequences");
  if (sequences.n_sequences == 0) return;
  checks.Present(sequences.slots, "sequences.slots");
  checks.Present(sequences.row_start, "sequences.row_start");
}

void CheckQueries(const ConstMatrix& q, int32_t n_heads, int32_t n_kv_heads, int32_t head_dim, float scale,
                  DType activation, Checks& checks) {
  checks.Heads(n_heads, n_kv_heads);
  checks.IsMatrix(q, activation, "q");
  checks.HasCols(q, int64_t{n_heads} * head_dim, "q");
  checks.PositiveFinite(scale, "scale");
}

absl::Status CheckLinearParts(std::span<const TensorView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("PackLinear: no parts");
  for (const TensorView& part : parts) {
    if (part.rows <= 0 || part.cols <= 0 || part.data == nullptr) {
      return absl::InvalidArgumentError(absl::StrFormat("PackLinear: a part is empty (%d x %d)", part.rows, part.cols));
    }
    if (part.cols != parts[0].cols) {
      return absl::InvalidArgumentError(
          absl::StrFormat("PackLinear: a part has %d columns, the first one %d", part.cols, parts[0].cols));
    }
    if (const DTypeTraits& traits = Traits(part.dtype); part.cols % traits.block_elements != 0) {
      return absl::InvalidArgumentError(absl::StrFormat("PackLinear: %d columns are no multiple of %s's block of %d",
                                                        part.cols, traits.name, traits.block_elements));
    }
  }
  return absl::OkStatus();
}

}  // namespace lukv
