#include "engine/model/runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

int64_t QkvColumns(const ModelConfig& config) {
  return int64_t{config.head_dim} * (config.n_heads + 2 * config.n_kv_heads);
}

int64_t AttentionColumns(const ModelConfig& config) { return int64_t{config.head_dim} * config.n_heads; }

int64_t ElementBytes(DType dtype) { return Traits(dtype).block_bytes; }

}  // namespace

int64_t ModelRunner::PageBytes(const ModelConfig& config, DType kv_dtype, int32_t page_tokens) {
  return int64_t{2} * page_tokens * config.head_dim * ElementBytes(kv_dtype);
}

int64_t ModelRunner::KvBytesPerToken(const ModelConfig& config, DType kv_dtype) {
  return int64_t{2} * config.n_layers * config.n_kv_heads * config.head_dim * ElementBytes(kv_dtype);
}

ModelRunner::ModelRunner(const Model& model, Backend& backend, const RunnerOptions& options)
    : model_(model),
      backend_(backend),
      options_(options),
      scale_(1.0f / std::sqrt(static_cast<float>(model.config.head_dim))),
      max_rows_(std::max(options.prefill_chunk, options.n_slots)) {}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(const Model& model, Backend& backend,
                                                                 const RunnerOptions& options) {
  LUKV_CHECK(options.n_slots > 0 && options.max_context > 0 && options.prefill_chunk > 0 && options.page_tokens > 0);
  std::unique_ptr<ModelRunner> runner(new ModelRunner(model, backend, options));
  LUKV_RETURN_IF_ERROR(runner->AllocateBuffers());
  return runner;
}

absl::Status ModelRunner::AllocateBuffers() {
  const ModelConfig& c = config();
  const int64_t page_bytes = PageBytes(c, options_.kv_dtype, options_.page_tokens);
  LUKV_ASSIGN_OR_RETURN(page_store_, backend_.Allocate(static_cast<size_t>(page_bytes) * options_.n_pages));
  pool_ = std::make_unique<PagePool>(options_.n_pages);
  table_ = std::make_unique<HeadPageTable>(
      KvGeometry{.n_layers = c.n_layers, .n_kv_heads = c.n_kv_heads, .page_tokens = options_.page_tokens},
      options_.n_slots, options_.max_context);

  // Logits rows are wide: a batch needs one per slot; runs that want the logits of every token get them in blocks.
  constexpr int64_t kLogitsBlock = 32;
  max_logit_rows_ = std::max<int64_t>(options_.n_slots, kLogitsBlock);
  const int64_t element = ElementBytes(backend_.activation_dtype());
  const auto allocate = [&](DeviceBuffer& buffer, int64_t elements, int64_t bytes_each) -> absl::Status {
    LUKV_ASSIGN_OR_RETURN(buffer, backend_.Allocate(static_cast<size_t>(elements * bytes_each)));
    return absl::OkStatus();
  };
  LUKV_RETURN_IF_ERROR(allocate(x_, options_.n_slots * int64_t{c.hidden}, element));
  LUKV_RETURN_IF_ERROR(allocate(normed_, max_rows_ * c.hidden, element));
  LUKV_RETURN_IF_ERROR(allocate(qkv_, max_rows_ * QkvColumns(c), element));
  LUKV_RETURN_IF_ERROR(allocate(q_, max_rows_ * AttentionColumns(c), element));
  LUKV_RETURN_IF_ERROR(allocate(attention_, max_rows_ * AttentionColumns(c), element));
  LUKV_RETURN_IF_ERROR(allocate(gate_up_, max_rows_ * 2 * c.ffn, element));
  LUKV_RETURN_IF_ERROR(allocate(activated_, max_rows_ * c.ffn, element));
  LUKV_RETURN_IF_ERROR(allocate(logits_, max_logit_rows_ * c.vocabulary, sizeof(float)));
  LUKV_RETURN_IF_ERROR(allocate(step_ids_, options_.n_slots, sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(allocate(step_positions_, options_.n_slots, sizeof(Position)));
  LUKV_RETURN_IF_ERROR(allocate(step_slots_, options_.n_slots, sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(allocate(step_row_start_, options_.n_slots + 1, sizeof(int32_t)));
  host_logits_.resize(static_cast<size_t>(max_logit_rows_ * c.vocabulary));

  // In a decode step every sequence has one row, so the row starts never change.
  std::vector<int32_t> row_start(static_cast<size_t>(options_.n_slots) + 1);
  for (size_t i = 0; i < row_start.size(); ++i) row_start[i] = static_cast<int32_t>(i);
  return backend_.CopyToDevice(step_row_start_.data(), row_start.data(), row_start.size() * sizeof(int32_t));
}

Matrix ModelRunner::Rows(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const {
  return Matrix{
      .data = buffer.data(), .dtype = backend_.activation_dtype(), .rows = rows, .cols = cols, .stride = cols};
}

Matrix ModelRunner::Hidden(const PrefillGroup& group, int32_t begin, int32_t end) const {
  Matrix all = Rows(group.hidden_, group.tokens_, config().hidden);
  all.data = group.hidden_.as<std::byte>() + begin * all.stride * ElementBytes(all.dtype);
  all.rows = end - begin;
  return all;
}

StagingView ModelRunner::Staging(const PrefillGroup& group) const {
  return StagingView{.k = group.staging_k_.data(),
                     .v = group.staging_v_.data(),
                     .dtype = options_.kv_dtype,
                     .capacity = group.tokens_,
                     .n_kv_heads = config().n_kv_heads,
                     .head_dim = config().head_dim};
}

PageStoreView ModelRunner::Pages() const {
  return PageStoreView{.base = page_store_.data(),
                       .dtype = options_.kv_dtype,
                       .page_tokens = options_.page_tokens,
                       .head_dim = config().head_dim,
                       .n_pages = options_.n_pages};
}

// ---------------------------------------------------------------------------------------------------------------------
// The layer, as a list of ops.

absl::Status ModelRunner::AttentionInputs(const LayerWeights& weights, ConstMatrix x) {
  const Matrix normed = Rows(normed_, x.rows, config().hidden);
  LUKV_RETURN_IF_ERROR(backend_.RmsNorm(
      {.x = x, .weight = weights.attention_norm.as<float>(), .epsilon = config().norm_epsilon, .out = normed}));
  return backend_.Linear({.weight = weights.qkv.get(),
                          .bias = weights.qkv_bias.as<float>(),
                          .in = normed,
                          .out = Rows(qkv_, x.rows, QkvColumns(config()))});
}

QkvArgs ModelRunner::SplitArgs(const LayerWeights& weights, const Position* positions, int64_t rows) const {
  const ModelConfig& c = config();
  return QkvArgs{.qkv = Rows(qkv_, rows, QkvColumns(c)),
                 .positions = positions,
                 .n_heads = c.n_heads,
                 .n_kv_heads = c.n_kv_heads,
                 .head_dim = c.head_dim,
                 .inverse_frequency = model_.inverse_frequency.as<float>(),
                 .layout = c.rope_layout,
                 .q_norm = weights.q_norm.as<float>(),
                 .k_norm = weights.k_norm.as<float>(),
                 .norm_epsilon = c.norm_epsilon,
                 .q_out = Rows(q_, rows, AttentionColumns(c))};
}

// x += W_O * attention, for x.rows rows of the attention output from first_row on.
absl::Status ModelRunner::AttentionOutput(const LayerWeights& weights, int64_t first_row, Matrix x) {
  Matrix attention = Rows(attention_, x.rows, AttentionColumns(config()));
  attention.data = attention_.as<std::byte>() + first_row * attention.stride * ElementBytes(attention.dtype);
  return backend_.Linear({.weight = weights.output.get(),
                          .bias = weights.output_bias.as<float>(),
                          .in = attention,
                          .out = x,
                          .accumulate = true});
}

absl::Status ModelRunner::Mlp(const LayerWeights& weights, Matrix x) {
  const ModelConfig& c = config();
  const Matrix normed = Rows(normed_, x.rows, c.hidden);
  const Matrix gate_up = Rows(gate_up_, x.rows, 2 * int64_t{c.ffn});
  const Matrix activated = Rows(activated_, x.rows, c.ffn);
  LUKV_RETURN_IF_ERROR(
      backend_.RmsNorm({.x = x, .weight = weights.mlp_norm.as<float>(), .epsilon = c.norm_epsilon, .out = normed}));
  LUKV_RETURN_IF_ERROR(backend_.Linear(
      {.weight = weights.gate_up.get(), .bias = weights.gate_up_bias.as<float>(), .in = normed, .out = gate_up}));
  LUKV_RETURN_IF_ERROR(backend_.SiluMul({.gate_up = gate_up, .out = activated}));
  return backend_.Linear({.weight = weights.down.get(),
                          .bias = weights.down_bias.as<float>(),
                          .in = activated,
                          .out = x,
                          .accumulate = true});
}

absl::Status ModelRunner::Logits(ConstMatrix x) {
  const ModelConfig& c = config();
  const Matrix normed = Rows(normed_, x.rows, c.hidden);
  Matrix logits = Rows(logits_, x.rows, c.vocabulary);
  logits.dtype = DType::kF32;
  LUKV_RETURN_IF_ERROR(
      backend_.RmsNorm({.x = x, .weight = model_.final_norm.as<float>(), .epsilon = c.norm_epsilon, .out = normed}));
  LUKV_RETURN_IF_ERROR(backend_.Linear({.weight = model_.logits.get(), .in = normed, .out = logits}));
  return backend_.CopyToHost(host_logits_.data(), logits_.data(),
                             static_cast<size_t>(x.rows * c.vocabulary) * sizeof(float));
}

// ---------------------------------------------------------------------------------------------------------------------
// Prefill

void PrefillGroup::Drop(size_t prompt) {
  if (prompts_[prompt].slots.empty()) return;
  prompts_[prompt].slots.clear();
  prompts_[prompt].logits_from = prompts_[prompt].tokens;
  --live_prompts_;
}

absl::StatusOr<PrefillGroup> ModelRunner::BeginPrefill(std::span<const PrefillPrompt> prompts) {
  const ModelConfig& c = config();
  PrefillGroup group;
  group.n_layers_ = c.n_layers;
  std::vector<TokenId> ids;
  for (const PrefillPrompt& prompt : prompts) {
    LUKV_CHECK(!prompt.tokens.empty() && !prompt.slots.empty());
    group.prompts_.push_back(
        {.slots = prompt.slots,
         .first_row = static_cast<int32_t>(ids.size()),
         .tokens = static_cast<int32_t>(prompt.tokens.size()),
         .logits_from = static_cast<int32_t>(std::min(prompt.logits_from, prompt.tokens.size() - 1))});
    ids.insert(ids.end(), prompt.tokens.begin(), prompt.tokens.end());
    for (size_t i = 0; i < prompt.tokens.size(); ++i) group.positions_.push_back(Position{static_cast<int32_t>(i)});
  }
  group.tokens_ = static_cast<int32_t>(ids.size());
  group.live_prompts_ = prompts.size();

  const int64_t tokens = group.tokens_;
  const int64_t staging_bytes = tokens * c.n_kv_heads * c.head_dim * ElementBytes(options_.kv_dtype);
  LUKV_ASSIGN_OR_RETURN(
      group.hidden_,
      backend_.Allocate(static_cast<size_t>(tokens * c.hidden * ElementBytes(backend_.activation_dtype()))));
  LUKV_ASSIGN_OR_RETURN(group.staging_k_, backend_.Allocate(static_cast<size_t>(staging_bytes)));
  LUKV_ASSIGN_OR_RETURN(group.staging_v_, backend_.Allocate(static_cast<size_t>(staging_bytes)));
  LUKV_ASSIGN_OR_RETURN(group.device_positions_, backend_.Allocate(static_cast<size_t>(tokens) * sizeof(Position)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(group.device_positions_.data(), group.positions_.data(),
                                             static_cast<size_t>(tokens) * sizeof(Position)));
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer device_ids,
                        backend_.Allocate(static_cast<size_t>(tokens) * sizeof(TokenId)));
  LUKV_RETURN_IF_ERROR(
      backend_.CopyToDevice(device_ids.data(), ids.data(), static_cast<size_t>(tokens) * sizeof(TokenId)));
  LUKV_RETURN_IF_ERROR(backend_.Embed(
      {.table = model_.embedding.get(), .ids = device_ids.as<int32_t>(), .out = Hidden(group, 0, group.tokens_)}));
  LUKV_RETURN_IF_ERROR(backend_.Synchronize());  // device_ids goes now.
  return group;
}

absl::Status ModelRunner::RunPrefillUnit(PrefillGroup& group, const LogitsSink& sink) {
  LUKV_CHECK(!group.done());
  const int32_t begin = group.chunk_begin_;
  const int32_t end = std::min(group.tokens_, begin + options_.prefill_chunk);
  LUKV_RETURN_IF_ERROR(LayerChunk(group, begin, end, sink));
  group.chunk_begin_ = end;
  if (end == group.tokens_) {
    LUKV_RETURN_IF_ERROR(CompactLayer(group));
    group.chunk_begin_ = 0;
    ++group.layer_;
  }
  return absl::OkStatus();
}

// Rows [begin, end) of the group through the group's current layer.
absl::Status ModelRunner::LayerChunk(PrefillGroup& group, int32_t begin, int32_t end, const LogitsSink& sink) {
  const LayerWeights& weights = model_.layers[static_cast<size_t>(group.layer_)];
  const Matrix x = Hidden(group, begin, end);
  LUKV_RETURN_IF_ERROR(AttentionInputs(weights, x));
  LUKV_RETURN_IF_ERROR(
      backend_.RopeStage({.qkv = SplitArgs(weights, group.device_positions_.as<Position>() + begin, x.rows),
                          .staging = Staging(group),
                          .staging_row = begin}));

  const bool last_layer = group.layer_ + 1 == group.n_layers_;
  std::vector<PrefillSegment> segments;
  for (size_t p = 0; p < group.prompts_.size(); ++p) {
    const PrefillGroup::Prompt& prompt = group.prompts_[p];
    const int32_t first = std::max(begin, prompt.first_row);
    const int32_t last = std::min(end, prompt.first_row + prompt.tokens);
    if (first >= last) continue;
    if (last_layer) {
      // K and V of every token are needed, but only the rows whose logits are wanted go on from here.
      const int32_t wanted = std::max(first, prompt.first_row + prompt.logits_from);
      if (wanted < last) LUKV_RETURN_IF_ERROR(LastLayerRows(group, p, wanted, last, begin, sink));
      continue;
    }
    segments.push_back({.q_row = first - begin,
                        .n_query = last - first,
                        .context_row = prompt.first_row,
                        .first = first - prompt.first_row});
  }
  if (last_layer) return absl::OkStatus();
  LUKV_RETURN_IF_ERROR(backend_.PrefillAttention({.q = Rows(q_, x.rows, AttentionColumns(config())),
                                                  .n_heads = config().n_heads,
                                                  .staging = Staging(group),
                                                  .segments = segments.data(),
                                                  .n_segments = static_cast<int32_t>(segments.size()),
                                                  .scale = scale_,
                                                  .out = Rows(attention_, x.rows, AttentionColumns(config()))}));
  LUKV_RETURN_IF_ERROR(AttentionOutput(weights, 0, x));
  return Mlp(weights, x);
}

// Rows [begin, end) of the group, all of one prompt and inside the chunk that starts at chunk_begin, through the rest
// of the last layer to the logits.
absl::Status ModelRunner::LastLayerRows(PrefillGroup& group, size_t prompt_index, int32_t begin, int32_t end,
                                        int32_t chunk_begin, const LogitsSink& sink) {
  const LayerWeights& weights = model_.layers.back();
  const PrefillGroup::Prompt& prompt = group.prompts_[prompt_index];
  const PrefillSegment segment{.q_row = begin - chunk_begin,
                               .n_query = end - begin,
                               .context_row = prompt.first_row,
                               .first = begin - prompt.first_row};
  LUKV_RETURN_IF_ERROR(
      backend_.PrefillAttention({.q = Rows(q_, end - chunk_begin, AttentionColumns(config())),
                                 .n_heads = config().n_heads,
                                 .staging = Staging(group),
                                 .segments = &segment,
                                 .n_segments = 1,
                                 .scale = scale_,
                                 .out = Rows(attention_, end - chunk_begin, AttentionColumns(config()))}));
  const Matrix x = Hidden(group, begin, end);
  LUKV_RETURN_IF_ERROR(AttentionOutput(weights, begin - chunk_begin, x));
  LUKV_RETURN_IF_ERROR(Mlp(weights, x));
  const size_t vocabulary = static_cast<size_t>(config().vocabulary);
  for (int32_t row = begin; row < end; row += static_cast<int32_t>(max_logit_rows_)) {
    const int32_t block_end = std::min(end, row + static_cast<int32_t>(max_logit_rows_));
    LUKV_RETURN_IF_ERROR(Logits(Hidden(group, row, block_end)));
    for (int32_t r = row; r < block_end; ++r) {
      sink(prompt_index, static_cast<size_t>(r - prompt.first_row),
           std::span<const float>(host_logits_).subspan(static_cast<size_t>(r - row) * vocabulary, vocabulary));
    }
  }
  return absl::OkStatus();
}

// Moves what the heads of the group's current layer keep from staging into their pages. Today every head keeps all of
// its prompt; a policy's choice takes the same way with lists of kept rows.
absl::Status ModelRunner::CompactLayer(const PrefillGroup& group) {
  for (const PrefillGroup::Prompt& prompt : group.prompts_) {
    for (const Slot slot : prompt.slots) {
      LUKV_RETURN_IF_ERROR(backend_.Compact({.staging = Staging(group),
                                             .context_row = prompt.first_row,
                                             .slot = Value(slot),
                                             .layer = group.layer_,
                                             .table = table_->View(),
                                             .pages = Pages()}));
    }
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------------------------------
// Decode

absl::StatusOr<std::span<const float>> ModelRunner::Decode(std::span<const DecodeRow> rows) {
  LUKV_CHECK(!rows.empty() && rows.size() <= static_cast<size_t>(options_.n_slots));
  std::vector<int32_t> ids, slots;
  std::vector<Position> positions;
  for (const DecodeRow& row : rows) {
    ids.push_back(row.token);
    slots.push_back(Value(row.slot));
    positions.push_back(row.position);
  }
  const int64_t n = static_cast<int64_t>(rows.size());
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(step_ids_.data(), ids.data(), rows.size() * sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(step_slots_.data(), slots.data(), rows.size() * sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(step_positions_.data(), positions.data(), rows.size() * sizeof(Position)));
  const SequenceRows sequences{.slots = step_slots_.as<int32_t>(),
                               .row_start = step_row_start_.as<int32_t>(),
                               .n_sequences = static_cast<int32_t>(n)};

  const Matrix x = Rows(x_, n, config().hidden);
  LUKV_RETURN_IF_ERROR(backend_.Embed({.table = model_.embedding.get(), .ids = step_ids_.as<int32_t>(), .out = x}));
  for (int32_t layer = 0; layer < config().n_layers; ++layer) {
    const LayerWeights& weights = model_.layers[static_cast<size_t>(layer)];
    LUKV_RETURN_IF_ERROR(AttentionInputs(weights, x));
    LUKV_RETURN_IF_ERROR(backend_.Append({.qkv = SplitArgs(weights, step_positions_.as<Position>(), n),
                                          .sequences = sequences,
                                          .table = table_->View(),
                                          .layer = layer,
                                          .pages = Pages()}));
    LUKV_RETURN_IF_ERROR(backend_.PagedAttention({.q = Rows(q_, n, AttentionColumns(config())),
                                                  .n_heads = config().n_heads,
                                                  .sequences = sequences,
                                                  .table = table_->View(),
                                                  .layer = layer,
                                                  .pages = Pages(),
                                                  .scale = scale_,
                                                  .out = Rows(attention_, n, AttentionColumns(config()))}));
    LUKV_RETURN_IF_ERROR(AttentionOutput(weights, 0, x));
    LUKV_RETURN_IF_ERROR(Mlp(weights, x));
  }
  LUKV_RETURN_IF_ERROR(Logits(x));
  return std::span<const float>(host_logits_).first(static_cast<size_t>(n * config().vocabulary));
}

}  // namespace lukv
