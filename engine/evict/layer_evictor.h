// What happens to one prompt's context in each layer of its prefill: statistics of its queries are gathered while the
// layer's chunks run; at the layer's end entries are scored and each plan's choice is made. Knows nothing of pages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/evict/eviction_plan.h"
#include "engine/evict/policy.h"
#include "kernels/backend.h"

namespace lukv {

// What of a model scorers have to know.
struct ScorerModel {
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  float scale = 0;                           // Of attention.
  const float* inverse_frequency = nullptr;  // device, [head_dim / 2]
  RopeLayout rope_layout = RopeLayout::kHalfSplit;
  float norm_epsilon = 0;
};

// The choice of one plan in one layer. Device arrays are valid until the next call of LayerEvictor::Choose.
struct KeptRows {
  std::vector<int32_t> counts;      // [n_kv_heads]
  const int32_t* rows = nullptr;    // device, as CompactArgs::kept_rows
  const int32_t* offset = nullptr;  // device, as CompactArgs::kept_offset
};

// One context on its way through the layers. Not thread-safe.
class LayerEvictor {
 public:
  // `scorers`: all that Score will be asked for. RESOURCE_EXHAUSTED when the buffers do not fit.
  static absl::StatusOr<LayerEvictor> Make(Backend& backend, const ScorerModel& model, int32_t n_tokens,
                                           Position first_position, std::vector<ScorerSettings> scorers);

  const std::vector<ScorerSettings>& scorers() const { return scorers_; }

  // Context tokens [first, first + n_rows) of the running layer: `qkv` before and `q` after RoPE, both of the chunk
  // that holds the tokens from its row `row` on. Tokens come in ascending order, each once per layer.
  absl::Status AddQueries(ConstMatrix qkv, ConstMatrix q, int64_t row, int32_t first, int32_t n_rows,
                          const float* q_norm);

  // After the layer's last token. Scores of all entries, [n_kv_heads, n_tokens], on the device until the next call.
  absl::StatusOr<ScoreMatrix> Score(const ScorerSettings& scorer, int32_t layer, const StagedContext& context);
  // What `plan` keeps, by scores that its scorer gave.
  absl::StatusOr<KeptRows> Choose(const EvictionPlan& plan, int32_t layer, const ScoreMatrix& scores);

 private:
  LayerEvictor(Backend& backend, const ScorerModel& model, int32_t n_tokens, Position first_position,
               std::vector<ScorerSettings> scorers);
  absl::Status AllocateBuffers();
  absl::Status HostScores(const ScorerSettings& scorer, int32_t layer);
  ConstMatrix WindowRows(int32_t queries) const;

  Backend* backend_;
  ScorerModel model_;
  int32_t n_tokens_;
  Position first_position_;
  std::vector<ScorerSettings> scorers_;
  int32_t window_ = 0;       // Last queries that are kept: the most that a SnapKV asks for, at most n_tokens.
  bool moments_ = false;     // An ExpectedAttention is among the scorers.
  int64_t counted_ = 0;      // Queries in the moments.
  DeviceBuffer window_q_;    // [window, n_heads * head_dim], rotated
  DeviceBuffer window_ids_;  // [window], 0, 1, 2, ...
  DeviceBuffer pivot_, sum_, products_;  // QueryMoments
  DeviceBuffer scores_;                  // [n_kv_heads, n_tokens]
  DeviceBuffer rows_;                    // [n_kv_heads * n_tokens]
  DeviceBuffer offset_;                  // [n_kv_heads + 1]
  DeviceBuffer budgets_;                 // [n_kv_heads]
};

}  // namespace lukv
