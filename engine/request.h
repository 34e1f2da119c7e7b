// What enters the engine and what comes out. No proto types: the server turns them into these and back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

class EvictionPlan;

// Applied in this order, as the ecosystem (vLLM, transformers) does: logit bias; min_tokens masks end and stop tokens;
// repetition, then frequency and presence penalties; temperature; min_p; top_k; top_p; draw.
struct SamplingParams {
  float temperature = 1.0f;             // >= 0; 0 is greedy (no draw; ties to the lower id).
  int32_t top_k = 0;                    // >= 0; 0: off.
  float top_p = 1.0f;                   // (0, 1]
  float min_p = 0.0f;                   // [0, 1]: tokens less likely than min_p times the likeliest are out.
  float repetition_penalty = 1.0f;      // > 0; on tokens of the prompt and of the output (Keskar et al., 1909.05858).
  float frequency_penalty = 0.0f;       // [-2, 2]; per earlier occurrence in the output.
  float presence_penalty = 0.0f;        // [-2, 2]; once if in the output.
  std::map<TokenId, float> logit_bias;  // Added to the logit.
  uint64_t seed = 0;  // Sample i of a request draws from the stream (seed, i), whatever else runs beside it.
};

inline constexpr int32_t kMaxPriority = 100;

struct SharedContextUse {
  int32_t n_tokens = 0;                            // >= 1
  absl::Time pinned_until = absl::InfinitePast();  // Until then it does not give way to others.
};

// How many values: REQUIRED relations are stated here, and hold: only the validator (server) makes a ValidRequest.
struct ValidRequest {
  std::string id;               // Unique among live requests; for logs.
  std::string tenant;           // Whose it is. Nothing that one tenant's requests leave behind is found by another's.
  int32_t priority = 0;         // [-kMaxPriority, kMaxPriority]; higher goes first.
  std::vector<TokenId> prompt;  // >= 1 token, all in the vocabulary; prompt + max_tokens <= the context limit.
  // What is kept of the prompt's first plan->n_tokens() tokens, its context; the tokens behind them, the question, see
  // only that and are kept whole. Null: nothing is evicted. From Engine::MakePlan; n_tokens() <= prompt.size().
  std::shared_ptr<const EvictionPlan> plan;
  // Set where the first n_tokens tokens are a context that other requests may bring, too: its compressed pages are kept
  // for them, and are taken from an earlier request if they are there. n_tokens == plan->n_tokens() if there is a plan.
  std::optional<SharedContextUse> shared_context;
  // Not empty: goes on from the prompt of the tenant's last request of this conversation, if its own begins with that
  // one's context and goes beyond it; and leaves its own prompt to the next one. REQUIRES: n == 1, no shared_context.
  std::string conversation;
  SamplingParams sampling;
  int32_t n = 1;                  // Samples; >= 1.
  int32_t max_tokens = 16;        // >= 1; 0: the prompt is a shared context alone, which is to be there afterwards.
  int32_t min_tokens = 0;         // <= max_tokens
  std::vector<TokenId> stop_ids;  // End the sample; the stop token itself is reported last.
  bool ignore_eos = false;        // Do not end at the model's end tokens.
  bool logprobs = false;          // Report the log-probability of each token (of the raw logits' softmax).
  int32_t top_logprobs = 0;       // And of so many alternatives; 0..20.
  absl::Time deadline = absl::InfiniteFuture();
};

enum class FinishReason : uint8_t {
  kStop,    // An end token, a stop id, or the consumer matched a stop string (Engine::Finish).
  kLength,  // max_tokens
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};

// One sampled token.
struct TokenEvent {
  int32_t sample = 0;
  TokenId token = 0;
  float logprob = 0;                            // If asked for.
  std::vector<TokenLogprob> alternatives = {};  // Most likely first; if asked for.
};

// Entries that the kv heads of one layer kept of a context.
struct KeptTokens {
  int32_t min = 0;
  float mean = 0;
  int32_t max = 0;
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;  // Over all samples.
  int32_t context_tokens = 0;    // Those of the prompt that were compressed; 0: nothing was evicted.
  std::vector<KeptTokens> kept;  // What each layer's heads kept of them; empty without a context.
  int64_t context_entries = 0;   // Those tokens in all layers and kv heads, and what was kept of them.
  int64_t kept_entries = 0;
  int32_t cached_tokens = 0;  // Of the prompt, that were found in the cache and not computed.
  int32_t preemptions = 0;
  int64_t kv_bytes_full = 0;      // What a cache that keeps every token in every head would hold at the end.
  int64_t kv_bytes_resident = 0;  // Bytes of the pages held at the end, over all samples; shared ones counted once.
  // What eviction left for others. (Without eviction pages are rounded up and the difference is the other way.)
  int64_t kv_bytes_freed() const { return kv_bytes_full > kv_bytes_resident ? kv_bytes_full - kv_bytes_resident : 0; }
  absl::Duration queue;        // Submit -> admitted
  absl::Duration prefill;      // Admitted -> prompt done
  absl::Duration first_token;  // Submit -> first token
  absl::Duration decode;       // First token -> last token
  absl::Duration eviction;     // Of the prefill: statistics, scores and choices, for all prompts of its group.
};

// One sample is over.
struct FinishEvent {
  int32_t sample = 0;
  FinishReason reason = FinishReason::kStop;
  TokenId stop_token = -1;  // The end token or stop id that ended it, -1 otherwise.
};

}  // namespace lukv
