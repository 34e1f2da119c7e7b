// What goes through a prefill: prompts, what is to be kept of them, and the state of prompts that move through the
// layers together.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/evict/eviction_plan.h"
#include "engine/evict/layer_evictor.h"
#include "engine/evict/policy.h"
#include "engine/kv/head_page_table.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"

namespace lukv {

// A cache that a prompt fills, and what it keeps of the prompt's context.
struct PrefillTarget {
  Slot slot{};
  const EvictionPlan* plan = nullptr;  // Null: everything. Must outlive the group.
};

// Raw scores of one layer, [n_kv_heads, context tokens], before any choice.
using ScoreSink = std::function<absl::Status(size_t prompt, int32_t layer, const ScorerSettings& scorer,
                                             std::span<const float> scores)>;

// A prompt to prefill: a context and, behind it, a question. Context tokens see each other in full; at the end of each
// layer each target keeps of them what its plan says. Question tokens see what was kept of the context, and each other,
// and are all kept. Positions are those of the text throughout.
//
// Either part may be empty. Without a context the question goes on from the entries that the slots hold already (a
// context prefilled before, an earlier turn), and first_position is where it stands in the text. Slots were taken into
// use by ModelRunner::OpenSlot, or grown by GrowSlot for a question alone.
struct PrefillPrompt {
  std::span<const TokenId> context;   // Must outlive BeginPrefill.
  std::span<const TokenId> question;  // Not both empty.
  Position first_position{};          // Of the first token.
  // n samples of one request, or several plans at work on the same context. With a question all have the same plan and
  // hold the same entries; it is run once.
  std::vector<PrefillTarget> targets;
  // Logits are wanted from this token (of context and question together) on; SIZE_MAX: for the last token alone.
  size_t logits_from = SIZE_MAX;
  // Scores that somebody wants to see, whatever the plans need.
  std::vector<ScorerSettings> observed_scorers;
};

// Logits of token `token` of prompt `prompt` of the group: [vocabulary]. Called in ascending order of token. With the
// logits on the host, or as a row of the runner's logits on the device, which ModelRunner::Sample may choose from until
// the sink returns.
using LogitsRowSink = std::function<absl::Status(size_t prompt, size_t token, int32_t row)>;
using LogitsSink = std::function<void(size_t prompt, size_t token, std::span<const float> logits)>;

// Linear layers have an arithmetic for rows of a decode step and one for those of a prefill (LinearArgs::decode).
enum class RowClass : uint8_t { kPrefill, kDecode };

// What a group's next unit does.
struct PrefillUnit {
  enum class Kind : uint8_t {
    kContext,   // Rows of contexts.
    kCompact,   // A layer's end: scores, choices, and what is kept goes into the pages.
    kQuestion,  // Rows of questions.
  };
  Kind kind = Kind::kContext;
  int32_t rows = 0;  // At most: to the end of the stretch. kCompact: all rows of contexts.
};

// Who looks at a prefill. Members may be empty.
struct PrefillSinks {
  LogitsSink logits;
  LogitsRowSink rows;
  ScoreSink scores;
};

// Prompts that move through the layers together. A unit is (layer, chunk of tokens) or a layer's end; between two units
// anything else may run on the device. The tokens stand in two stretches: all contexts, then all questions, so that a
// layer's contexts are compressed before its first question row runs. Owns what a prefill needs beside the pages: the
// hidden states of all its tokens, K and V of the contexts in ONE layer, and what scorers want to know about the
// queries.
class PrefillGroup {
 public:
  bool done() const { return layer_ == n_layers_; }
  int32_t tokens() const { return context_tokens_ + question_tokens_; }
  // REQUIRES: !done()
  PrefillUnit next_unit() const;
  // (row, entry) pairs that the attention of the next unit's first `rows` rows goes over, per head; for rows of
  // questions an estimate. What a unit takes depends on little else.
  int64_t EntriesSeen(int32_t rows) const;
  // The prompt's result is not wanted any more; its slots may be released and used again.
  void Drop(size_t prompt);
  bool empty() const { return live_prompts_ == 0; }
  // Device bytes held for hidden states, and for the one layer of K and V.
  size_t hidden_bytes() const { return hidden_.bytes(); }
  size_t staging_bytes() const { return staging_k_.bytes() + staging_v_.bytes(); }
  // Time that the layers' statistics, scores and choices took.
  absl::Duration eviction_time() const { return eviction_time_; }

 private:
  friend class ModelRunner;
  struct Prompt {
    std::vector<PrefillTarget> targets;
    int32_t context_row = 0;  // Of the group's rows.
    int32_t context = 0;      // Tokens
    int32_t question_row = 0;
    int32_t question = 0;
    int32_t kept = 0;         // Of the context, or held before, by a head on average.
    int32_t logits_from = 0;  // Token of the prompt.
    std::vector<ScorerSettings> observed;
    std::optional<LayerEvictor> evictor;  // If anything is to be scored.

    bool dropped() const { return targets.empty(); }
  };
  std::vector<Prompt> prompts_;
  size_t live_prompts_ = 0;
  std::vector<Position> positions_;  // [tokens]
  int32_t context_tokens_ = 0;
  int32_t question_tokens_ = 0;
  int32_t n_layers_ = 0;
  int32_t layer_ = 0;
  int32_t chunk_begin_ = 0;
  bool compacted_ = false;  // This layer.
  RowClass rows_ = RowClass::kPrefill;
  absl::Duration eviction_time_;
  DeviceBuffer hidden_;            // [tokens, hidden]
  DeviceBuffer device_positions_;  // [tokens]
  DeviceBuffer staging_k_;         // [n_kv_heads, context tokens, head_dim]
  DeviceBuffer staging_v_;
};

}  // namespace lukv
