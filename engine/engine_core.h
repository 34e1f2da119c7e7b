// The engine without its thread: one step at a time, on the time of a clock. What the server's engine thread runs
// (engine_loop.h), and what the simulator runs on a time of its own.
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/engine_parts.h"
#include "engine/kv/context_cache.h"
#include "engine/live_request.h"
#include "engine/schedule/planner.h"
#include "engine/schedule/step_cost.h"

namespace lukv {

class EngineCore {
 public:
  // The clock must outlive it.
  EngineCore(EngineParts parts, std::vector<TokenId> end_tokens, const EngineOptions& options, const Clock& clock);
  // REQUIRES: EndAll was called. Checks that no page is leaked.
  ~EngineCore();

  // As of Engine. Tickets are the caller's: each once, in ascending order.
  void Submit(Ticket ticket, ValidRequest request, std::shared_ptr<Outbox> outbox);
  void Cancel(Ticket ticket);
  void Finish(Ticket ticket, int32_t sample, int32_t tokens);
  bool ReleaseContext(const ContextKey& key);

  // Ends what is over by now (deadlines, timeouts), then: plan, preempt, decode, admit, prefill. False: nothing was
  // run.
  bool Step();
  // When Step has to be called again although nobody asked for anything.
  absl::Time NextWake() const;
  // Every request ends with `status`; nothing is kept.
  void EndAll(const absl::Status& status);

  // Any thread may call these two.
  absl::StatusOr<std::shared_ptr<const EvictionPlan>> MakePlan(const Policy& policy, int32_t context_tokens) const;
  const ModelInfo& info() const { return info_; }
  const CurveSet& curves() const { return parts_.curves; }

  EngineStats Stats() const;
  std::vector<RequestRow> Requests() const;

 private:
  struct ByStanding {
    bool operator()(const LiveRequest* a, const LiveRequest* b) const { return LiveRequest::Before(a, b); }
  };
  using Standing = std::set<LiveRequest*, ByStanding>;

  // Prompts that are prefilled together, or outputs that are replayed.
  struct LiveGroup {
    PrefillGroup group;
    bool replay = false;
    bool is_long = false;
    std::vector<LiveRequest*> requests;             // By prompt; null: ended meanwhile.
    std::vector<std::vector<SampledToken>> tokens;  // By prompt: the first ones, one for each unfinished sample.
  };

  // What a request goes on from: nothing, or entries that are there.
  struct Base {
    std::shared_ptr<const SharedPages> pages;
    int32_t generated = 0;  // Entries of it behind the context.
    int32_t tokens = 0;     // Of the prompt that need not be computed.
  };

  // Requests (engine_core.cc)
  absl::Status CheckFits(const LiveRequest& request) const;
  absl::Status CheckQueue(const LiveRequest& request) const;
  absl::Duration RetryDelay() const;
  absl::Duration PrefillEstimate(double tokens) const;
  void Expire();
  absl::Time ExpiryOf(const LiveRequest& request) const;
  // Frees what the request holds and sends its DoneEvent; the request is gone afterwards.
  void End(LiveRequest& request, const absl::Status& status);
  void EndAdmitted(const absl::Status& status);
  void Leave(LiveRequest& request);  // Groups and promises.
  void Recommit(LiveRequest& request);
  void StopAt(LiveRequest& request, LiveSample& sample);
  void FinishSample(LiveRequest& request, LiveSample& sample, FinishReason reason, TokenId stop_token);
  void ReleaseSample(LiveRequest& request, LiveSample& sample, bool count);
  void CountUsage(LiveRequest& request, const LiveSample& sample);
  void KeepConversation(const LiveRequest& request, const LiveSample& sample);
  void CountLayers(const LiveRequest& request, int32_t samples);
  static void SendDone(Outbox& outbox, const absl::Status& status, const Usage& usage);

  // A step (engine_step.cc)
  void PinWhatIsThere();
  PlanInput Look();
  Base FindBase(LiveRequest& request);
  Base ChooseBase(LiveRequest& request);
  bool KeepsContext(const LiveRequest& request) const;
  bool ContextIsComing(const LiveRequest& request) const;
  uint32_t PagesToAdmit(const LiveRequest& request, const Base& base) const;
  int32_t ReserveFor(const LiveRequest& request, int32_t output) const;
  uint32_t FreePages() const;
  bool MakeRoom(uint32_t pages);
  void Preempt(LiveRequest& request);
  absl::Status RunDecode(const std::vector<int32_t>& planned);
  Work DecodeWork(const std::vector<LiveRequest*>& requests) const;
  void TopUp(LiveRequest& request);
  void Admit(const std::vector<int32_t>& planned);
  void Take(LiveRequest& request, const Base& base, uint32_t pages);
  absl::Status Open(LiveRequest& request, const Base& base, std::vector<PrefillPrompt>& prompts);
  absl::Status RunPrefill(bool decoding);
  absl::Status RunUnit(LiveGroup& group, int32_t rows);
  absl::Status OnGroupDone(LiveGroup& group);
  void ReportKept(LiveRequest& request, std::span<const int32_t> kept);
  absl::Status OnPromptDone(LiveRequest& request, std::vector<SampledToken> tokens);
  absl::Status StartReplay(const std::vector<LiveRequest*>& requests);
  void StartDecode(LiveRequest& request);
  void OnToken(LiveRequest& request, LiveSample& sample, SampledToken sampled);
  static void AddRow(const LiveRequest& request, const LiveSample& sample, int32_t logits_row, SampleBatch& batch);

  EngineParts parts_;
  const EngineOptions options_;
  const std::vector<TokenId> end_tokens_;
  const Clock& clock_;
  ModelInfo info_;

  std::unordered_map<Ticket, std::unique_ptr<LiveRequest>> requests_;
  Standing waiting_;
  Standing running_;                                // Admitted and not ended.
  std::vector<LiveRequest*> looked_at_;             // The waiting requests that the plan is about, and
  std::vector<LiveRequest*> runners_;               // the running ones.
  std::vector<std::unique_ptr<LiveGroup>> groups_;  // One long, one short at most; the one to go first is the first.
  std::vector<Slot> free_slots_;
  uint32_t committed_ = 0;          // Sum of the requests'.
  int64_t full_pages_ = 0;          // Sum of the running requests'.
  int32_t new_requests_ = 0;        // Waiting and never admitted, and
  int64_t new_tokens_ = 0;          // the tokens of their prompts.
  int64_t pages_pinned_ahead_ = 0;  // That contexts to be pinned will come to hold.
  ContextCache cache_;
  StepCost cost_;
  absl::Duration decode_time_;  // Of the last decode step, smoothed.
  EngineStats counters_;
};

}  // namespace lukv
