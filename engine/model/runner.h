// Runs a model over the paged KV cache of one device: layer-major prefill and decode steps. The server's engine, the
// bench and the accuracy tools drive the same runner; there is no second forward.
//
// Not thread-safe: belongs to the engine thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/head_page_table.h"
#include "engine/kv/page_pool.h"
#include "engine/model/model.h"
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

// A prompt to prefill. Its slots have been assigned in the page table; all of them get the same entries (n samples of
// one request).
struct PrefillPrompt {
  std::span<const TokenId> tokens;  // Must outlive the group. Never empty.
  std::vector<Slot> slots;
  // Logits are wanted from this token on; SIZE_MAX: for the last token alone.
  size_t logits_from = SIZE_MAX;
};

// Logits of token `token` of prompt `prompt` of the group: [vocabulary]. Called in ascending order of token.
using LogitsSink = std::function<void(size_t prompt, size_t token, std::span<const float> logits)>;

// Prompts that move through the layers together. A unit is (layer, chunk of the concatenated prompts); between two
// units anything else may run on the device. Owns what a prefill needs beside the pages: the hidden states of all its
// tokens, and K and V of ONE layer.
class PrefillGroup {
 public:
  bool done() const { return layer_ == n_layers_; }
  int32_t tokens() const { return tokens_; }
  // The prompt's result is not wanted any more; its slots may be released and used again.
  void Drop(size_t prompt);
  bool empty() const { return live_prompts_ == 0; }
  // Device bytes held for hidden states and staging.
  size_t bytes() const { return hidden_.bytes() + staging_k_.bytes() + staging_v_.bytes(); }

 private:
  friend class ModelRunner;
  struct Prompt {
    std::vector<Slot> slots;
    int32_t first_row = 0;  // Of the concatenation.
    int32_t tokens = 0;
    int32_t logits_from = 0;  // Token of the prompt.
  };
  std::vector<Prompt> prompts_;
  size_t live_prompts_ = 0;
  std::vector<Position> positions_;  // [tokens]
  int32_t tokens_ = 0;
  int32_t n_layers_ = 0;
  int32_t layer_ = 0;
  int32_t chunk_begin_ = 0;
  DeviceBuffer hidden_;            // [tokens, hidden]
  DeviceBuffer device_positions_;  // [tokens]
  DeviceBuffer staging_k_;         // [n_kv_heads, tokens, head_dim]
  DeviceBuffer staging_v_;
};

// One row of a decode step: `token` is appended to the slot at `position`, and the logits after it are returned. The
// page table must have been extended by one entry for it (HeadPageTable::Append).
struct DecodeRow {
  Slot slot;
  TokenId token = 0;
  Position position{};
};

class ModelRunner {
 public:
  // RESOURCE_EXHAUSTED when the pages do not fit in memory. The model and the backend must outlive the runner.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(const Model& model, Backend& backend,
                                                             const RunnerOptions& options);

  // Bytes of one page, and of all entries of one token (every layer and kv head).
  static int64_t PageBytes(const ModelConfig& config, DType kv_dtype, int32_t page_tokens);
  static int64_t KvBytesPerToken(const ModelConfig& config, DType kv_dtype);

  PagePool& pool() { return *pool_; }
  HeadPageTable& table() { return *table_; }
  const ModelConfig& config() const { return model_.config; }
  const RunnerOptions& options() const { return options_; }

  // Embeds the prompts' tokens. Nothing is run through a layer yet.
  absl::StatusOr<PrefillGroup> BeginPrefill(std::span<const PrefillPrompt> prompts);
  // Runs the next unit. After the last unit of a layer the layer's entries are in the pages; after the last layer the
  // logits have gone to `sink` and done() is true. REQUIRES: !group.done().
  absl::Status RunPrefillUnit(PrefillGroup& group, const LogitsSink& sink);

  // One token more for each row; logits: [rows, vocabulary], valid until the next call. REQUIRES: 1 <= rows <= n_slots,
  // no slot twice.
  absl::StatusOr<std::span<const float>> Decode(std::span<const DecodeRow> rows);

 private:
  ModelRunner(const Model& model, Backend& backend, const RunnerOptions& options);
  absl::Status AllocateBuffers();

  // The parts of a layer; x is the residual stream, rows of one step or one chunk.
  absl::Status AttentionInputs(const LayerWeights& weights, ConstMatrix x);
  QkvArgs SplitArgs(const LayerWeights& weights, const Position* positions, int64_t rows) const;
  absl::Status AttentionOutput(const LayerWeights& weights, int64_t first_row, Matrix x);
  absl::Status Mlp(const LayerWeights& weights, Matrix x);
  absl::Status Logits(ConstMatrix x);

  absl::Status LayerChunk(PrefillGroup& group, int32_t begin, int32_t end, const LogitsSink& sink);
  absl::Status LastLayerRows(PrefillGroup& group, size_t prompt, int32_t begin, int32_t end, int32_t chunk_begin,
                             const LogitsSink& sink);
  absl::Status CompactLayer(const PrefillGroup& group);

  StagingView Staging(const PrefillGroup& group) const;
  PageStoreView Pages() const;
  Matrix Hidden(const PrefillGroup& group, int32_t begin, int32_t end) const;
  Matrix Rows(const DeviceBuffer& buffer, int64_t rows, int64_t cols) const;

  const Model& model_;
  Backend& backend_;
  const RunnerOptions options_;
  const float scale_;  // Of attention scores.

  DeviceBuffer page_store_;
  std::unique_ptr<PagePool> pool_;
  std::unique_ptr<HeadPageTable> table_;

  // Work space of one chunk or one decode step, [max_rows_, ...].
  const int64_t max_rows_;
  DeviceBuffer x_;               // [hidden], decode's residual stream
  DeviceBuffer normed_;          // [hidden]
  DeviceBuffer qkv_;             // [(n_heads + 2 * n_kv_heads) * head_dim]
  DeviceBuffer q_;               // [n_heads * head_dim]
  DeviceBuffer attention_;       // [n_heads * head_dim]
  DeviceBuffer gate_up_;         // [2 * ffn]
  DeviceBuffer activated_;       // [ffn]
  DeviceBuffer logits_;          // [max_logit_rows_, vocabulary], f32
  DeviceBuffer step_ids_;        // [n_slots] of the decode step
  DeviceBuffer step_positions_;  // [n_slots]
  DeviceBuffer step_slots_;      // [n_slots]
  DeviceBuffer step_row_start_;  // [n_slots + 1]; row i is sequence i
  int64_t max_logit_rows_ = 0;
  std::vector<float> host_logits_;
};

}  // namespace lukv
