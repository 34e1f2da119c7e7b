// The engine: owns the model, the KV pages and one thread that runs the step loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/evict/budget_curve.h"
#include "engine/evict/eviction_plan.h"
#include "engine/kv/context_cache.h"
#include "engine/memory_plan.h"
#include "engine/model/model_config.h"
#include "engine/outbox.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"

namespace lukv {

struct EngineOptions {
  int64_t kv_memory_bytes = 0;      // For pages, rounded down to whole ones; 0: see engine/memory_plan.h.
  double memory_utilization = 0.9;  // Share of the device's free memory that may be taken; (0, 1].
  DType kv_dtype = DType::kBF16;    // kBF16 or kF32
  int32_t page_tokens = 64;         // Entries of one kv head per page.
  int32_t max_sequences = 64;       // Running at once.
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = int64_t{1} << 24;             // Prompt tokens of all waiting requests.
  absl::Duration queue_timeout = absl::InfiniteDuration();  // Who waited so long is refused.
  absl::Duration priority_ageing = absl::Seconds(10);       // Waiting so long is worth one step of priority.
  // What a step may take while sequences decode: prefill gets what decoding leaves of it. Zero: prefill gets
  // seven tenths of the time that decoding takes, so that tokens come at more than half their pace.
  absl::Duration max_step;
  // Entries set aside for a sequence's output at its admission, and again whenever those are used up.
  int32_t generation_reserve = 256;
  absl::Duration slow_client_timeout = absl::Seconds(60);  // A consumer that takes nothing for so long is given up.
  bool share_contexts = true;                              // False: only pinned contexts are kept for later requests.
  double max_pinned_contexts = 0.5;                        // Share of the pages that pinned contexts may hold.
  int32_t max_context = 0;                                 // Tokens of prompt + output; 0: the model's context length.
  int32_t prefill_chunk = 512;                             // Tokens of a prefill unit.
  // Budget curves for LU-KV: a folder whose files must all be of this model, or else (if empty) a root that is searched
  // for a folder of this model. Both empty: none.
  std::string curves;
  std::string curves_root;
  int32_t min_evicted_context = 256;  // Tokens; of a shorter context nothing is evicted.

  absl::Status Validate() const;
};

// Context entries of one layer, over all kv heads of the running sequences.
struct LayerEntries {
  int64_t full = 0;  // If nothing were evicted.
  int64_t kept = 0;
};

// A consistent reading for metrics.
struct EngineStats {
  int32_t running = 0;         // Sequences admitted and not finished.
  int32_t waiting = 0;         // Requests not admitted yet, or preempted.
  int64_t waiting_tokens = 0;  // Of their prompts.
  int32_t parked = 0;          // Sequences whose consumer is full.
  uint32_t pages_total = 0;
  uint32_t pages_used = 0;  // But for pages_reclaimable.
  int64_t page_bytes = 0;
  int64_t prompt_tokens = 0;  // Counters since start.
  int64_t generated_tokens = 0;
  int64_t steps = 0;
  int64_t prefill_units = 0;
  int64_t preemptions = 0;
  int64_t cache_query_tokens = 0;  // Context tokens that were looked up, and that were found.
  int64_t cache_hit_tokens = 0;
  // Sequences that were admitted although a cache that keeps everything would have had no room for them.
  int64_t admitted_by_eviction = 0;
  int32_t contexts = 0;            // Kept for later requests,
  uint32_t pages_contexts = 0;     // the pages they hold,
  uint32_t pages_reclaimable = 0;  // and those of them that give way when running sequences need them.
  absl::Duration decode_stall;     // Time that sequences which could have decoded waited for units of a prefill.
  int64_t step_failures = 0;
  int64_t kv_bytes_full = 0;  // Gauges over the running sequences.
  int64_t kv_bytes_resident = 0;
  std::vector<LayerEntries> layers;
};

// What the engine serves, for GetModel and the start-up log.
struct ModelInfo {
  ModelConfig config;
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;  // All layers and kv heads, full cache.
  int32_t max_context = 0;
  std::string device;
  MemoryPlan memory;
  DType kv_dtype = DType::kBF16;
  std::string fingerprint;  // engine/model/fingerprint.h; what budget curves are known by.
  int32_t min_evicted_context = 0;
};

// One live request, for people who look at a server.
struct RequestRow {
  std::string id;
  std::string tenant;
  std::string state;  // "waiting", "prefill", "decode", "parked" or "preempted"
  int32_t priority = 0;
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;
  int32_t samples = 0;
  uint32_t pages = 0;
  std::string policy;
  absl::Time submitted;
};

// Handle of a submitted request.
using Ticket = uint64_t;

class Engine {
 public:
  // Loads the weights into the backend and allocates the pages. The tokenizer is read only for its end tokens.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const std::string& model_path, std::unique_ptr<Backend> backend,
                                                        const Tokenizer& tokenizer, const EngineOptions& options);
  // Ends running requests with CANCELLED, joins the thread, checks that no page is leaked.
  virtual ~Engine() = default;

  // Any thread; never waits for model work. The outbox gets every event of the request and at last one DoneEvent, also
  // when the request is refused (engine/refusal.h): it can never fit, with the sums; the queue is full; it waited for
  // too long; its deadline cannot be met any more.
  virtual Ticket Submit(ValidRequest request, std::shared_ptr<Outbox> outbox) = 0;

  // Any thread; idempotent; unknown tickets are ignored. Pages are free within one step; DoneEvent is CANCELLED.
  virtual void Cancel(Ticket ticket) = 0;

  // The consumer found a stop string: end this sample as kStop. Tokens after `tokens` are not counted.
  virtual void Finish(Ticket ticket, int32_t sample, int32_t tokens) = 0;

  // Any thread. A shared context is not pinned any more, and gone as soon as nobody uses it. Whether it was there.
  // Waits for the current step.
  virtual bool ReleaseContext(const ContextKey& key) = 0;

  // Any thread. What `policy` keeps of a context of `context_tokens` >= 1: null if that is everything (the policy is
  // full, or the context shorter than min_evicted_context). INVALID_ARGUMENT: the policy cannot be honoured for this
  // model, and why; never is another put in its place.
  virtual absl::StatusOr<std::shared_ptr<const EvictionPlan>> MakePlan(const Policy& policy,
                                                                       int32_t context_tokens) const = 0;
  // The budget curves that were found for the model.
  virtual const CurveSet& curves() const = 0;

  virtual EngineStats Stats() const = 0;
  virtual std::vector<RequestRow> Requests() const = 0;
  // How long the current step has been running; zero between steps.
  virtual absl::Duration StepAge() const = 0;
  virtual const ModelInfo& info() const = 0;
};

}  // namespace lukv
