// Runs a model over the paged KV cache of one device: layer-major prefill and decode steps. The server's engine, the
// bench and the accuracy tools drive the same runner; there is no second forward.
//
// Not thread-safe: belongs to the engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/device_page_table.h"
#include "engine/kv/head_page_table.h"
#include "engine/kv/page_pool.h"
#include "engine/model/model.h"
#include "engine/model/prefill_group.h"
#include "engine/sample/sampler.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"

namespace lukv {

struct RunnerOptions {
  DType kv_dtype = DType::kBF16;
  int32_t page_tokens = 64;
  uint32_t n_pages = 0;
  int32_t n_slots = 1;
  int32_t max_context = 0;      // Tokens of a sequence, prompt and output.
  int32_t prefill_chunk = 512;  // Tokens of a prefill unit.
};

// One row of a decode step: `token` is appended to the slot at `position`, and the logits after it are returned. The
// page table must have been extended by one entry for it (GrowSlot).
struct DecodeRow {
  Slot slot;
  TokenId token = 0;
  Position position{};
};

// Sees, in each layer of a decode step, the attention weights of each row's query heads on the first n_entries entries
// of their kv head: [rows, n_heads, n_entries]. REQUIRES: every head of every row's slot holds that many.
struct DecodeObserver {
  int32_t n_entries = 0;
  std::function<absl::Status(int32_t layer, std::span<const float> weights)> on_weights;
};

class ModelRunner {
 public:
  // RESOURCE_EXHAUSTED when the pages do not fit in memory. The model and the backend must outlive the runner.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(const Model& model, Backend& backend,
                                                             const RunnerOptions& options);

  // Device bytes that a runner takes beside its pages, and that a prefill takes for each of its tokens.
  static int64_t BufferBytes(const ModelConfig& config, const RunnerOptions& options, DType activations);
  static int64_t PrefillBytesPerToken(const ModelConfig& config, const RunnerOptions& options, DType activations);
  // Bytes of one page, and of all entries of one token (every layer and kv head).
  static int64_t PageBytes(const ModelConfig& config, DType kv_dtype, int32_t page_tokens);
  static int64_t KvBytesPerToken(const ModelConfig& config, DType kv_dtype);

  PagePool& pool() { return *pool_; }
  HeadPageTable& table() { return *table_; }
  const ModelConfig& config() const { return model_.config; }
  const RunnerOptions& options() const { return options_; }

  // Takes a free slot into use for a prompt: leases the pages that the plan's part of `context` tokens and all of
  // `question` tokens need, with room to grow by `room` entries more. RESOURCE_EXHAUSTED: not enough pages are free.
  absl::Status OpenSlot(const PrefillTarget& target, int32_t context, int32_t question, int32_t room);
  // Takes a free slot into use with the entries of `shared`, no more than `generated` of those behind the context, and
  // `question` entries that are to follow; it may grow by `room` more. RESOURCE_EXHAUSTED as above.
  absl::Status OpenShared(Slot slot, const std::shared_ptr<const SharedPages>& shared, int32_t generated,
                          int32_t question, int32_t room);
  // Makes an open slot n entries longer. RESOURCE_EXHAUSTED as above.
  absl::Status GrowSlot(Slot slot, int32_t n);
  // Pages that what `plan` keeps of the context and `more` entries behind it take: what OpenSlot leases, and what a
  // slot can come to hold. Exact, but for plans that are not known from the length: a bound.
  uint32_t PagesToOpen(const EvictionPlan* plan, int32_t context, int32_t more) const;
  // The same for another slot that shares the first `shared` of `more` entries behind the context with the first one.
  uint32_t PagesToFork(const EvictionPlan* plan, int32_t context, int32_t shared, int32_t more) const;

  // Embeds the prompts' tokens. Nothing is run through a layer yet.
  absl::StatusOr<PrefillGroup> BeginPrefill(std::span<const PrefillPrompt> prompts);
  // The same for tokens that were generated once and are to be in the cache again, bit for bit: prompts are questions
  // alone, and nobody wants their logits.
  absl::StatusOr<PrefillGroup> BeginReplay(std::span<const PrefillPrompt> prompts);
  // Runs the next unit, of at most `max_rows` rows and prefill_chunk. After the last unit of a layer the layer's
  // entries are in the pages; after the last layer the logits have gone to the sink and done() is true. REQUIRES:
  // !group.done(), max_rows >= 1.
  absl::Status RunPrefillUnit(PrefillGroup& group, const PrefillSinks& sinks, int32_t max_rows = INT32_MAX);
  // Both, to the end.
  absl::Status Prefill(std::span<const PrefillPrompt> prompts, const PrefillSinks& sinks);

  // One token more for each row; their logits are then the first rows of the logits. REQUIRES: 1 <= rows <= n_slots, no
  // slot twice.
  absl::Status Decode(std::span<const DecodeRow> rows, const DecodeObserver* observer = nullptr);

  // The logits on the device are those of the last Decode, or, in a PrefillSinks::rows, of the row it is called for.
  // Chooses tokens from them; waits for the device. REQUIRES: at most n_slots rows, n_top <= kMaxTopTokens.
  absl::StatusOr<std::vector<SampledToken>> Sample(const SampleBatch& batch);
  // The first n_rows of them: [n_rows, vocabulary], valid until the next call. Waits for the device.
  absl::StatusOr<std::span<const float>> HostLogits(int64_t n_rows);

  // K and V of one head's entries as f32, [length, head_dim] each. For analysis and tests.
  struct HeadEntries {
    std::vector<float> k;
    std::vector<float> v;
  };
  absl::StatusOr<HeadEntries> ReadEntries(Slot slot, int32_t layer, int32_t kv_head);

 private:
  ModelRunner(const Model& model, Backend& backend, const RunnerOptions& options);
  absl::Status AllocateBuffers();
  // The work space: each buffer's member and its bytes.
  struct BufferSize {
    DeviceBuffer ModelRunner::*buffer;
    int64_t bytes;
  };
  static std::vector<BufferSize> BufferSizes(const ModelConfig& config, const RunnerOptions& options,
                                             DType activations);

  // The parts of a layer; x is the residual stream, rows of one step or one chunk.
  absl::Status AttentionInputs(const LayerWeights& weights, ConstMatrix x, RowClass rows);
  // For rows [begin, end) of the work space; positions of those rows.
  QkvArgs SplitArgs(const LayerWeights& weights, const Position* positions, int64_t begin, int64_t end) const;
  absl::Status AttentionOutput(const LayerWeights& weights, int64_t first_row, Matrix x, RowClass rows);
  absl::Status Mlp(const LayerWeights& weights, Matrix x, RowClass rows);
  absl::Status Logits(ConstMatrix x);  // To logits_
  absl::Status DecodeStep(int64_t rows, const DecodeObserver* observer);

  // Prefill (prefill.cc).
  absl::StatusOr<PrefillGroup> Begin(std::span<const PrefillPrompt> prompts, RowClass rows);
  // Rows [begin, end) of the group, all of contexts or all of questions.
  absl::Status ContextChunk(PrefillGroup& group, int32_t begin, int32_t end, const PrefillSinks& sinks);
  absl::Status QuestionChunk(PrefillGroup& group, int32_t begin, int32_t end, const PrefillSinks& sinks);
  absl::Status AppendQuestion(const PrefillGroup& group, const PrefillGroup::Prompt& prompt, const PageTableView& table,
                              int32_t first, int32_t last, int32_t chunk_begin);
  absl::Status AttendPages(const PrefillGroup& group, const PrefillGroup::Prompt& prompt, const PageTableView& table,
                           int32_t first, int32_t last, int32_t chunk_begin);
  absl::StatusOr<PageTableView> TableUpTo(const PrefillGroup::Prompt& prompt, int32_t question_entries);
  absl::StatusOr<SequenceRows> QuestionRows(Slot slot, int32_t n_rows);
  absl::Status AttendContext(const PrefillGroup& group, std::span<const PrefillSegment> segments, int64_t rows);
  absl::Status Observe(const DecodeObserver& observer, int32_t layer, const SequenceRows& sequences);
  // The rest of the last layer, to the logits.
  absl::Status LastLayerRows(PrefillGroup& group, size_t prompt, int32_t first, int32_t last, int32_t chunk_begin,
                             const PrefillSinks& sinks);
  // The layer's end: what each target keeps goes from staging into its pages.
  absl::Status CompactLayer(PrefillGroup& group, const ScoreSink& sink);
  absl::Status CompactPrompt(PrefillGroup& group, size_t prompt, const ScoreSink& sink);
  absl::Status CompactInto(const PrefillGroup& group, const PrefillGroup::Prompt& prompt, Slot slot,
                           const KeptRows* kept);

  StagingView Staging(const PrefillGroup& group) const;
  PageStoreView Pages() const;
  ScorerModel Scoring() const;
  Matrix Hidden(const PrefillGroup& group, int32_t begin, int32_t end) const;
  Matrix Rows(const DeviceBuffer& buffer, int64_t begin, int64_t end, int64_t cols) const;
  Matrix Rows(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const { return Rows(buffer, 0, rows, cols); }

  const Model& model_;
  Backend& backend_;
  const RunnerOptions options_;
  const float scale_;      // Of attention scores.
  const uint64_t replay_;  // Backend::Replay's keys of this runner: this + the number of rows.

  DeviceBuffer page_store_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<HeadPageTable> table_;
  std::optional<DevicePageTable> device_table_;

  // Work space of one chunk or one decode step, [prefill_chunk or n_slots, ...].
  DeviceBuffer x_;                   // [hidden], decode's residual stream
  DeviceBuffer normed_;              // [hidden]
  DeviceBuffer qkv_;                 // [(n_heads + 2 * n_kv_heads) * head_dim]
  DeviceBuffer q_;                   // [n_heads * head_dim]
  DeviceBuffer attention_;           // [n_heads * head_dim]
  DeviceBuffer gate_up_;             // [2 * ffn]
  DeviceBuffer activated_;           // [ffn]
  DeviceBuffer logits_;              // [max_logit_rows_, vocabulary], f32
  DeviceBuffer step_ids_;            // [n_slots] of the decode step
  DeviceBuffer step_positions_;      // [n_slots]
  DeviceBuffer step_slots_;          // [n_slots]
  DeviceBuffer step_row_start_;      // [n_slots + 1]; row i is sequence i
  DeviceBuffer sample_rows_;         // [n_slots] SampleRow
  DeviceBuffer sampled_;             // Outcome of a Sample, [n_slots] rows of kSampledWords
  DeviceBuffer adjustments_;         // TokenAdjustment; grows.
  DeviceBuffer question_rows_;       // [2]: row starts of one question's rows
  DeviceBuffer question_slot_;       // [1]
  DeviceBuffer question_generated_;  // [n_slots]: the table's, as a question's chunk sees it.
  const int64_t max_logit_rows_;
  std::vector<float> host_logits_;
  std::vector<uint32_t> host_sampled_;
};

}  // namespace lukv
