// A request inside the engine, from its submission to its DoneEvent.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/kv/head_page_table.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/sample/sampler.h"

namespace lukv {

// One sample of a request. While it holds no slot (waiting, preempted) its output is all there is of it.
struct LiveSample {
  int32_t index = 0;
  Sampler sampler;
  std::vector<TokenId> output = {};  // Chosen so far; the last one has no entry in the cache yet.
  bool finished = false;
  bool open = false;  // `slot` is in use.
  Slot slot{};
  int32_t stop_at = -1;  // The consumer stopped it after so many tokens while the cache was being filled again.
  int32_t reserved = 0;  // Entries behind the prompt that pages were promised for.
};

struct LiveRequest {
  enum class Phase : uint8_t {
    kWaiting,  // Or preempted.
    kPrefill,
    kReplay,  // The prompt is back in the cache, its output follows.
    kDecode,
  };

  Ticket ticket = 0;
  ValidRequest request;
  std::shared_ptr<Outbox> outbox;
  std::vector<TokenId> end_ids;
  // The prompt's first tokens, which do not see what follows them; `plan` says what is kept of them. As the request has
  // it, or as the conversation has it that the request goes on with. All of the prompt where there is nothing to share
  // and nothing to evict.
  int32_t context_tokens = 0;
  std::shared_ptr<const EvictionPlan> plan;
  ContextKey context_key;  // Of a shared context.

  Phase phase = Phase::kWaiting;
  std::vector<LiveSample> samples;
  uint32_t committed = 0;                // Pages that it was promised, but for shared ones.
  int64_t full_pages = 0;                // What a cache that keeps everything would have promised it.
  std::vector<int64_t> layer_kept;       // Entries that a sample's heads keep of the context, by layer; once known.
  std::vector<const void*> shared_seen;  // Shared pages that `usage` has counted.
  absl::Time standing;                   // Arrival, moved by the priority: whoever has the earlier one goes first.
  absl::Time submitted;
  absl::Time admitted = absl::InfinitePast();  // First time; InfinitePast: not yet.
  absl::Time first_token = absl::InfinitePast();
  absl::Time last_token;
  absl::Time parked_since = absl::InfiniteFuture();  // The consumer has been full since then.
  Usage usage;

  // Order of standing, everywhere.
  static bool Before(const LiveRequest* a, const LiveRequest* b) {
    return a->standing != b->standing ? a->standing < b->standing : a->ticket < b->ticket;
  }

  bool was_admitted() const { return admitted != absl::InfinitePast(); }
  int32_t prompt_tokens() const { return static_cast<int32_t>(request.prompt.size()); }
  // Entries of the prompt behind its context.
  int32_t question_tokens() const { return prompt_tokens() - context_tokens; }
  // A shared context that is to be there, and nothing else.
  bool context_only() const { return request.max_tokens == 0; }
  // The context and the plan as the request has them.
  void UseOwnContext();
  int32_t unfinished() const;
  int32_t longest_output() const;
  LiveSample& first_unfinished();  // REQUIRES: unfinished() > 0
};

}  // namespace lukv
