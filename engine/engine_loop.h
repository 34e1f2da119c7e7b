// The engine's step loop: intake -> plan -> run -> sample -> emit, on one thread that owns all state below.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/kv/head_page_table.h"
#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "engine/sample/sampler.h"
#include "engine/schedule/planner.h"

namespace lukv {

// Everything that the loop runs on, in the order in which it may be destroyed from the end.
struct EngineParts {
  std::unique_ptr<WeightSource> weights;  // Embedding rows are read from its mapping.
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<ModelRunner> runner;
  std::string fingerprint;
  CurveSet curves;
  MemoryPlan memory;
};

class EngineLoop final : public Engine {
 public:
  EngineLoop(EngineParts parts, std::vector<TokenId> end_tokens, const EngineOptions& options);
  ~EngineLoop() override;

  Ticket Submit(ValidRequest request, std::shared_ptr<Outbox> outbox) override;
  void Cancel(Ticket ticket) override;
  void Finish(Ticket ticket, int32_t sample, int32_t tokens) override;
  absl::StatusOr<std::shared_ptr<const EvictionPlan>> MakePlan(const Policy& policy,
                                                               int32_t context_tokens) const override;
  const CurveSet& curves() const override { return parts_.curves; }
  EngineStats Stats() const override;
  bool ReleaseContext(const ContextKey&) override { return false; }
  std::vector<RequestRow> Requests() const override { return {}; }
  absl::Duration StepAge() const override { return absl::ZeroDuration(); }
  const ModelInfo& info() const override { return info_; }

 private:
  // One sample of an admitted request.
  struct Sample {
    int32_t index = 0;
    Slot slot{};
    Sampler sampler;
    int32_t generated = 0;
    TokenId last = 0;          // Chosen, not in the cache yet.
    Position next_position{};  // Of `last`.
    bool finished = false;
  };

  struct Request {
    Ticket ticket = 0;
    ValidRequest request;
    std::shared_ptr<Outbox> outbox;
    std::vector<TokenId> end_ids;
    std::vector<Sample> samples;    // Empty until admitted.
    uint32_t pages_per_sample = 0;  // The most that a sample can come to hold.
    bool prefilled = false;
    absl::Time submitted, admitted, prompt_done, first_token, last_token;
    Usage usage;

    bool finished() const;
  };
  using RequestPtr = std::unique_ptr<Request>;

  // What other threads ask for; taken over by the loop at its next step.
  struct FinishCommand {
    Ticket ticket;
    int32_t sample;
    int32_t tokens;
  };
  struct Inbox {
    std::vector<RequestPtr> submitted;
    std::vector<Ticket> cancelled;
    std::vector<FinishCommand> finished;
    bool space = false;  // A consumer that was full has room again.
    bool stop = false;
    bool empty() const { return submitted.empty() && cancelled.empty() && finished.empty() && !space && !stop; }
  };

  // What the loop's thread shares with others. Outboxes hold on to it, as a consumer may report space after the engine
  // has gone.
  struct Mailbox {
    Mutex mutex;
    Inbox inbox ABSL_GUARDED_BY(mutex);
    Ticket next_ticket ABSL_GUARDED_BY(mutex) = 1;
    int32_t queued ABSL_GUARDED_BY(mutex) = 0;  // Submitted and not admitted.
    EngineStats stats ABSL_GUARDED_BY(mutex);
  };

  void Run();
  Inbox WaitForInbox(bool idle);
  void Intake(Inbox inbox);
  void ExpireDeadlines();
  StepPlan MakePlan();
  void Admit(int32_t requests);
  absl::Status StartGroup(const std::vector<Request*>& requests);
  absl::Status RunPrefillUnit();
  absl::Status RunDecode();
  void OnPromptDone(Request& request, std::vector<SampledToken> tokens);  // One for each sample.
  void OnToken(Request& request, Sample& sample, SampledToken sampled);
  static void AddRow(const Request& request, const Sample& sample, int32_t logits_row, SampleBatch& batch);
  void FinishSample(Request& request, Sample& sample, FinishReason reason, TokenId stop_token);
  // Frees what the request holds and sends its DoneEvent; the request is gone afterwards.
  void End(Ticket ticket, const absl::Status& status);
  void EndAdmittedWith(const absl::Status& status);
  void SweepFinished();
  void ReleaseSample(Request& request, Sample& sample);
  void PublishStats();
  static void SendDone(Outbox& outbox, const absl::Status& status, const Usage& usage);
  uint32_t PagesPerSample(const ValidRequest& request) const;
  absl::Status CheckFits(const Request& request) const;

  EngineParts parts_;
  const EngineOptions options_;
  const std::vector<TokenId> end_tokens_;
  ModelInfo info_;

  // Owned by the loop's thread.
  std::deque<RequestPtr> waiting_;
  std::map<Ticket, RequestPtr> admitted_;  // In order of arrival.
  std::optional<PrefillGroup> group_;
  std::vector<Request*> group_requests_;  // By prompt of the group; null: ended meanwhile.
  std::vector<Slot> free_slots_;
  uint32_t committed_pages_ = 0;  // Sum of what admitted samples can come to hold; never above the pool.
  EngineStats counters_;

  const std::shared_ptr<Mailbox> mailbox_;

  std::thread thread_;  // Last: starts when all else is there.
};

}  // namespace lukv
