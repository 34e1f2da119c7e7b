#include "engine/model/runner.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

int64_t ElementBytes(DType dtype) { return Traits(dtype).block_bytes; }

// Logits rows are wide: a batch needs one per slot; runs that want the logits of every token get them in blocks.
int64_t LogitRows(const RunnerOptions& options) { return std::max(options.n_slots, 32); }

// Token, log-probability, and as many of top tokens.
constexpr int64_t kSampledWords = 2 * (1 + kMaxTopTokens);

// Runners of one backend must not share keys, nor may a later one take up those of an earlier one.
uint64_t NextReplayKey() {
  static std::atomic<uint64_t> runners = 0;
  return ++runners << 32;
}

}  // namespace

std::vector<ModelRunner::BufferSize> ModelRunner::BufferSizes(const ModelConfig& c, const RunnerOptions& options,
                                                              DType activations) {
  const int64_t element = ElementBytes(activations);
  const int64_t slots = options.n_slots;
  const int64_t rows = std::max<int64_t>(options.prefill_chunk, slots);
  constexpr int64_t kInt = sizeof(int32_t);
  return {{&ModelRunner::x_, slots * c.hidden * element},
          {&ModelRunner::normed_, rows * c.hidden * element},
          {&ModelRunner::qkv_, rows * c.qkv_features() * element},
          {&ModelRunner::q_, rows * c.q_features() * element},
          {&ModelRunner::attention_, rows * c.q_features() * element},
          {&ModelRunner::gate_up_, rows * 2 * c.ffn * element},
          {&ModelRunner::activated_, rows * c.ffn * element},
          {&ModelRunner::logits_, LogitRows(options) * c.vocabulary * int64_t{sizeof(float)}},
          {&ModelRunner::step_ids_, slots * kInt},
          {&ModelRunner::step_positions_, slots * kInt},
          {&ModelRunner::step_slots_, slots * kInt},
          {&ModelRunner::step_row_start_, (slots + 1) * kInt},
          {&ModelRunner::sample_rows_, slots * static_cast<int64_t>(sizeof(SampleRow))},
          {&ModelRunner::sampled_, slots * kSampledWords * kInt},
          {&ModelRunner::question_rows_, 2 * kInt},
          {&ModelRunner::question_slot_, kInt},
          {&ModelRunner::question_generated_, slots * kInt}};
}

int64_t ModelRunner::BufferBytes(const ModelConfig& config, const RunnerOptions& options, DType activations) {
  int64_t sum = 0;
  for (const BufferSize& size : BufferSizes(config, options, activations)) sum += size.bytes;
  const KvGeometry geometry{
      .n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads, .page_tokens = options.page_tokens};
  return sum + static_cast<int64_t>(HeadPageTable::WordsFor(geometry, options.n_slots, options.max_context) *
                                    sizeof(uint32_t));
}

int64_t ModelRunner::PrefillBytesPerToken(const ModelConfig& c, const RunnerOptions& options, DType activations) {
  // Hidden state, position and id; K and V of one layer; a score and a kept row in each kv head.
  return c.hidden * ElementBytes(activations) + 8 +
         int64_t{2} * c.n_kv_heads * c.head_dim * ElementBytes(options.kv_dtype) + int64_t{8} * c.n_kv_heads;
}

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
      replay_(NextReplayKey()),
      max_logit_rows_(LogitRows(options)) {}

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
  LUKV_ASSIGN_OR_RETURN(device_table_, DevicePageTable::Make(*table_, backend_));

  for (const auto& [buffer, bytes] : BufferSizes(c, options_, backend_.activation_dtype())) {
    LUKV_ASSIGN_OR_RETURN(this->*buffer, backend_.Allocate(static_cast<size_t>(bytes)));
  }
  // In a decode step every sequence has one row, so the row starts never change.
  std::vector<int32_t> row_start(static_cast<size_t>(options_.n_slots) + 1);
  for (size_t i = 0; i < row_start.size(); ++i) row_start[i] = static_cast<int32_t>(i);
  return backend_.CopyToDevice(step_row_start_.data(), row_start.data(), row_start.size() * sizeof(int32_t));
}

Matrix ModelRunner::Rows(const DeviceBuffer& buffer, int64_t begin, int64_t end, int64_t cols) const {
  const DType dtype = backend_.activation_dtype();
  return Matrix{.data = buffer.as<std::byte>() + begin * cols * ElementBytes(dtype),
                .dtype = dtype,
                .rows = end - begin,
                .cols = cols,
                .stride = cols};
}

PageStoreView ModelRunner::Pages() const {
  return PageStoreView{.base = page_store_.data(),
                       .dtype = options_.kv_dtype,
                       .page_tokens = options_.page_tokens,
                       .head_dim = config().head_dim,
                       .n_pages = options_.n_pages};
}

ScorerModel ModelRunner::Scoring() const {
  return ScorerModel{.n_heads = config().n_heads,
                     .n_kv_heads = config().n_kv_heads,
                     .head_dim = config().head_dim,
                     .scale = scale_,
                     .inverse_frequency = model_.inverse_frequency.as<float>(),
                     .rope_layout = config().rope_layout,
                     .norm_epsilon = config().norm_epsilon};
}

// ---------------------------------------------------------------------------------------------------------------------
// Slots and their pages.

uint32_t ModelRunner::PagesToOpen(const EvictionPlan* plan, int32_t context, int32_t more) const {
  if (plan != nullptr) return plan->PagesFor(more);
  return static_cast<uint32_t>(table_->geometry().heads()) * table_->geometry().PagesFor(context + more);
}

absl::Status ModelRunner::OpenSlot(const PrefillTarget& target, int32_t context, int32_t question, int32_t room) {
  if (context == 0) {
    const std::vector<int32_t> none(static_cast<size_t>(table_->geometry().heads()), 0);
    table_->Assign(target.slot, none, question + room, PageLease());
    absl::Status status = GrowSlot(target.slot, question);
    if (!status.ok()) table_->Release(target.slot);
    return status;
  }
  LUKV_ASSIGN_OR_RETURN(PageLease lease,
                        pool_->Take(PagesToOpen(target.plan, context, question), PageOwner::kSequence));
  table_->Open(target.slot, question, room, std::move(lease));
  return absl::OkStatus();
}

uint32_t ModelRunner::PagesToFork(const EvictionPlan* plan, int32_t context, int32_t shared, int32_t more) const {
  const KvGeometry& geometry = table_->geometry();
  const auto heads = static_cast<uint32_t>(geometry.heads());
  const auto pages = [&](int32_t kept) {
    return geometry.PagesFor(kept + more) - static_cast<uint32_t>((kept + shared) / geometry.page_tokens);
  };
  if (plan == nullptr) return heads * pages(context);
  // Whatever a head keeps: the page that is not full, and those of the rest.
  if (!plan->known_from_length()) return heads * (geometry.PagesFor(more - shared) + 1);
  uint32_t sum = 0;
  for (const int32_t kept : plan->budgets()) sum += pages(kept);
  return sum;
}

absl::Status ModelRunner::OpenShared(Slot slot, const std::shared_ptr<const SharedPages>& shared, int32_t generated,
                                     int32_t question, int32_t room) {
  LUKV_ASSIGN_OR_RETURN(PageLease lease,
                        pool_->Take(table_->PagesToOpenShared(*shared, generated), PageOwner::kSequence));
  const std::vector<PageCopy> copies = table_->OpenShared(slot, shared, generated, question + room, std::move(lease));
  absl::Status status =
      backend_.CopyPages({.pages = Pages(), .copies = copies.data(), .n_copies = static_cast<int64_t>(copies.size())});
  if (status.ok()) status = GrowSlot(slot, question);
  if (!status.ok()) table_->Release(slot);
  return status;
}

absl::Status ModelRunner::GrowSlot(Slot slot, int32_t n) {
  LUKV_ASSIGN_OR_RETURN(PageLease lease, pool_->Take(table_->PagesToAppend(slot, n), PageOwner::kSequence));
  table_->Append(slot, n, std::move(lease));
  return absl::OkStatus();
}

absl::StatusOr<ModelRunner::HeadEntries> ModelRunner::ReadEntries(Slot slot, int32_t layer, int32_t kv_head) {
  const size_t length = static_cast<size_t>(Value(table_->Length(slot, layer, kv_head)));
  const size_t dim = static_cast<size_t>(config().head_dim);
  const size_t page_tokens = static_cast<size_t>(options_.page_tokens);
  const size_t page_bytes = static_cast<size_t>(PageBytes(config(), options_.kv_dtype, options_.page_tokens));
  HeadEntries entries{.k = std::vector<float>(length * dim), .v = std::vector<float>(length * dim)};
  std::vector<std::byte> page(page_bytes);
  size_t done = 0;
  for (const PageId id : table_->Pages(slot, layer, kv_head)) {
    LUKV_RETURN_IF_ERROR(
        backend_.CopyToHost(page.data(), page_store_.as<std::byte>() + size_t{id} * page_bytes, page_bytes));
    const size_t n = std::min(page_tokens, length - done) * dim;
    Dequantize(options_.kv_dtype, page.data(), static_cast<int64_t>(n), &entries.k[done * dim]);
    Dequantize(options_.kv_dtype, page.data() + page_bytes / 2, static_cast<int64_t>(n), &entries.v[done * dim]);
    done += n / dim;
  }
  return entries;
}

// ---------------------------------------------------------------------------------------------------------------------
// The layer, as a list of ops.

absl::Status ModelRunner::AttentionInputs(const LayerWeights& weights, ConstMatrix x, RowClass rows) {
  const Matrix normed = Rows(normed_, x.rows, config().hidden);
  LUKV_RETURN_IF_ERROR(backend_.RmsNorm(
      {.x = x, .weight = weights.attention_norm.as<float>(), .epsilon = config().norm_epsilon, .out = normed}));
  return backend_.Linear({.weight = weights.qkv.get(),
                          .bias = weights.qkv_bias.as<float>(),
                          .in = normed,
                          .out = Rows(qkv_, x.rows, config().qkv_features()),
                          .decode = rows == RowClass::kDecode});
}

QkvArgs ModelRunner::SplitArgs(const LayerWeights& weights, const Position* positions, int64_t begin,
                               int64_t end) const {
  const ModelConfig& c = config();
  return QkvArgs{.qkv = Rows(qkv_, begin, end, c.qkv_features()),
                 .positions = positions,
                 .n_heads = c.n_heads,
                 .n_kv_heads = c.n_kv_heads,
                 .head_dim = c.head_dim,
                 .inverse_frequency = model_.inverse_frequency.as<float>(),
                 .layout = c.rope_layout,
                 .q_norm = weights.q_norm.as<float>(),
                 .k_norm = weights.k_norm.as<float>(),
                 .norm_epsilon = c.norm_epsilon,
                 .q_out = Rows(q_, begin, end, c.q_features())};
}

// x += W_O * attention, for x.rows rows of the attention output from first_row on.
absl::Status ModelRunner::AttentionOutput(const LayerWeights& weights, int64_t first_row, Matrix x, RowClass rows) {
  const Matrix attention = Rows(attention_, first_row, first_row + x.rows, config().q_features());
  return backend_.Linear({.weight = weights.output.get(),
                          .bias = weights.output_bias.as<float>(),
                          .in = attention,
                          .out = x,
                          .accumulate = true,
                          .decode = rows == RowClass::kDecode});
}

absl::Status ModelRunner::Mlp(const LayerWeights& weights, Matrix x, RowClass rows) {
  const ModelConfig& c = config();
  const Matrix normed = Rows(normed_, x.rows, c.hidden);
  const Matrix gate_up = Rows(gate_up_, x.rows, 2 * int64_t{c.ffn});
  const Matrix activated = Rows(activated_, x.rows, c.ffn);
  LUKV_RETURN_IF_ERROR(
      backend_.RmsNorm({.x = x, .weight = weights.mlp_norm.as<float>(), .epsilon = c.norm_epsilon, .out = normed}));
  LUKV_RETURN_IF_ERROR(backend_.Linear({.weight = weights.gate_up.get(),
                                        .bias = weights.gate_up_bias.as<float>(),
                                        .in = normed,
                                        .out = gate_up,
                                        .decode = rows == RowClass::kDecode}));
  LUKV_RETURN_IF_ERROR(backend_.SiluMul({.gate_up = gate_up, .out = activated}));
  return backend_.Linear({.weight = weights.down.get(),
                          .bias = weights.down_bias.as<float>(),
                          .in = activated,
                          .out = x,
                          .accumulate = true,
                          .decode = rows == RowClass::kDecode});
}

absl::Status ModelRunner::Logits(ConstMatrix x) {
  const ModelConfig& c = config();
  const Matrix normed = Rows(normed_, x.rows, c.hidden);
  Matrix logits = Rows(logits_, x.rows, c.vocabulary);
  logits.dtype = DType::kF32;
  LUKV_RETURN_IF_ERROR(
      backend_.RmsNorm({.x = x, .weight = model_.final_norm.as<float>(), .epsilon = c.norm_epsilon, .out = normed}));
  // Few rows always: at most one for each sequence, or a block of them.
  return backend_.Linear({.weight = model_.logits.get(), .in = normed, .out = logits, .decode = true});
}

absl::StatusOr<std::span<const float>> ModelRunner::HostLogits(int64_t n_rows) {
  LUKV_CHECK(n_rows <= max_logit_rows_);
  const size_t values = static_cast<size_t>(n_rows * config().vocabulary);
  host_logits_.resize(values);
  LUKV_RETURN_IF_ERROR(backend_.CopyToHost(host_logits_.data(), logits_.data(), values * sizeof(float)));
  return std::span<const float>(host_logits_);
}

absl::StatusOr<std::vector<SampledToken>> ModelRunner::Sample(const SampleBatch& batch) {
  const size_t n = batch.rows.size();
  LUKV_CHECK(n > 0 && n <= static_cast<size_t>(options_.n_slots));
  int32_t max_top = 0;
  for (const SampleRow& row : batch.rows) max_top = std::max(max_top, row.n_top);
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(sample_rows_.data(), batch.rows.data(), n * sizeof(SampleRow)));
  const size_t adjustment_bytes = batch.adjustments.size() * sizeof(TokenAdjustment);
  if (adjustment_bytes > adjustments_.bytes()) {
    adjustments_.Reset();
    LUKV_ASSIGN_OR_RETURN(adjustments_, backend_.Allocate(2 * adjustment_bytes));
  }
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(adjustments_.data(), batch.adjustments.data(), adjustment_bytes));

  // The parts lie one behind the other, so that one copy brings all.
  const size_t n_top = n * static_cast<size_t>(max_top);
  const size_t logprobs_at = n, top_at = 2 * n, top_logprobs_at = top_at + n_top;
  uint32_t* const words = sampled_.as<uint32_t>();
  SampleArgs args{.logits = Rows(logits_, max_logit_rows_, config().vocabulary),
                  .rows = sample_rows_.as<SampleRow>(),
                  .n_rows = static_cast<int32_t>(n),
                  .adjustments = adjustments_.as<TokenAdjustment>(),
                  .n_adjustments = static_cast<int32_t>(batch.adjustments.size()),
                  .max_top = max_top,
                  .tokens = reinterpret_cast<int32_t*>(words),
                  .logprobs = batch.logprobs ? reinterpret_cast<float*>(words + logprobs_at) : nullptr,
                  .top_tokens = reinterpret_cast<int32_t*>(words + top_at),
                  .top_logprobs = reinterpret_cast<float*>(words + top_logprobs_at)};
  args.logits.dtype = DType::kF32;
  LUKV_RETURN_IF_ERROR(backend_.Sample(args));
  host_sampled_.resize(batch.logprobs ? top_logprobs_at + n_top : n);
  LUKV_RETURN_IF_ERROR(
      backend_.CopyToHost(host_sampled_.data(), sampled_.data(), host_sampled_.size() * sizeof(uint32_t)));

  std::vector<SampledToken> tokens(n);
  for (size_t i = 0; i < n; ++i) {
    tokens[i].token = static_cast<TokenId>(host_sampled_[i]);
    if (!batch.logprobs) continue;
    tokens[i].logprob = std::bit_cast<float>(host_sampled_[logprobs_at + i]);
    for (size_t t = 0; t < static_cast<size_t>(batch.rows[i].n_top); ++t) {
      const size_t at = i * static_cast<size_t>(max_top) + t;
      tokens[i].top.push_back({.token = static_cast<TokenId>(host_sampled_[top_at + at]),
                               .logprob = std::bit_cast<float>(host_sampled_[top_logprobs_at + at])});
    }
  }
  return tokens;
}

// ---------------------------------------------------------------------------------------------------------------------
// Decode

absl::Status ModelRunner::Decode(std::span<const DecodeRow> rows, const DecodeObserver* observer) {
  LUKV_CHECK(!rows.empty() && rows.size() <= static_cast<size_t>(options_.n_slots));
  std::vector<int32_t> ids, slots;
  std::vector<Position> positions;
  for (const DecodeRow& row : rows) {
    ids.push_back(row.token);
    slots.push_back(Value(row.slot));
    positions.push_back(row.position);
  }
  const int64_t n = static_cast<int64_t>(rows.size());
  LUKV_RETURN_IF_ERROR(device_table_->Update());
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(step_ids_.data(), ids.data(), rows.size() * sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(step_slots_.data(), slots.data(), rows.size() * sizeof(int32_t)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(step_positions_.data(), positions.data(), rows.size() * sizeof(Position)));
  if (observer != nullptr) return DecodeStep(n, observer);
  // All that changes from step to step lies in device memory by now.
  return backend_.Replay(replay_ + static_cast<uint64_t>(n), [&] { return DecodeStep(n, nullptr); });
}

absl::Status ModelRunner::DecodeStep(int64_t n, const DecodeObserver* observer) {
  const SequenceRows sequences{.slots = step_slots_.as<int32_t>(),
                               .row_start = step_row_start_.as<int32_t>(),
                               .n_sequences = static_cast<int32_t>(n)};

  const Matrix x = Rows(x_, n, config().hidden);
  LUKV_RETURN_IF_ERROR(backend_.Embed({.table = model_.embedding.get(), .ids = step_ids_.as<int32_t>(), .out = x}));
  for (int32_t layer = 0; layer < config().n_layers; ++layer) {
    const LayerWeights& weights = model_.layers[static_cast<size_t>(layer)];
    LUKV_RETURN_IF_ERROR(AttentionInputs(weights, x, RowClass::kDecode));
    LUKV_RETURN_IF_ERROR(backend_.Append({.qkv = SplitArgs(weights, step_positions_.as<Position>(), 0, n),
                                          .sequences = sequences,
                                          .table = device_table_->view(),
                                          .layer = layer,
                                          .pages = Pages()}));
    LUKV_RETURN_IF_ERROR(backend_.PagedAttention({.q = Rows(q_, n, config().q_features()),
                                                  .n_heads = config().n_heads,
                                                  .sequences = sequences,
                                                  .table = device_table_->view(),
                                                  .layer = layer,
                                                  .pages = Pages(),
                                                  .scale = scale_,
                                                  .out = Rows(attention_, n, config().q_features())}));
    if (observer != nullptr) LUKV_RETURN_IF_ERROR(Observe(*observer, layer, sequences));
    LUKV_RETURN_IF_ERROR(AttentionOutput(weights, 0, x, RowClass::kDecode));
    LUKV_RETURN_IF_ERROR(Mlp(weights, x, RowClass::kDecode));
  }
  return Logits(x);
}

absl::Status ModelRunner::Observe(const DecodeObserver& observer, int32_t layer, const SequenceRows& sequences) {
  const int64_t rows = sequences.n_sequences;
  const size_t values = static_cast<size_t>(rows * config().n_heads) * static_cast<size_t>(observer.n_entries);
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer weights, backend_.Allocate(values * sizeof(float)));
  LUKV_RETURN_IF_ERROR(backend_.PagedAttentionWeights({.q = Rows(q_, rows, config().q_features()),
                                                       .n_heads = config().n_heads,
                                                       .sequences = sequences,
                                                       .table = device_table_->view(),
                                                       .layer = layer,
                                                       .pages = Pages(),
                                                       .scale = scale_,
                                                       .n_entries = observer.n_entries,
                                                       .out = weights.as<float>()}));
  std::vector<float> host(values);
  LUKV_RETURN_IF_ERROR(backend_.CopyToHost(host.data(), weights.data(), values * sizeof(float)));
  return observer.on_weights(layer, host);
}

}  // namespace lukv
