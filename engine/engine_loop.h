// The engine: EngineCore on a thread of its own, and a mailbox for what other threads ask of it.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "engine/engine_core.h"

namespace lukv {

class EngineLoop final : public Engine {
 public:
  EngineLoop(EngineParts parts, std::vector<TokenId> end_tokens, const EngineOptions& options);
  ~EngineLoop() override;

  Ticket Submit(ValidRequest request, std::shared_ptr<Outbox> outbox) override;
  void Cancel(Ticket ticket) override;
  void Finish(Ticket ticket, int32_t sample, int32_t tokens) override;
  bool ReleaseContext(const ContextKey& key) override;
  absl::StatusOr<std::shared_ptr<const EvictionPlan>> MakePlan(const Policy& policy,
                                                               int32_t context_tokens) const override {
    return core_.MakePlan(policy, context_tokens);
  }
  const CurveSet& curves() const override { return core_.curves(); }
  EngineStats Stats() const override;
  std::vector<RequestRow> Requests() const override;
  absl::Duration StepAge() const override;
  const ModelInfo& info() const override { return core_.info(); }

 private:
  struct Submission {
    Ticket ticket = 0;
    ValidRequest request;
    std::shared_ptr<Outbox> outbox;
  };
  struct FinishCommand {
    Ticket ticket = 0;
    int32_t sample = 0;
    int32_t tokens = 0;
  };
  struct Release {
    ContextKey key;
    bool done = false;
    bool found = false;
  };
  // What other threads ask for; taken over by the loop at its next step, in this order.
  struct Inbox {
    std::vector<Submission> submitted;
    std::vector<Ticket> cancelled;
    std::vector<FinishCommand> finished;
    std::vector<std::shared_ptr<Release>> releases;
    bool space = false;  // A consumer that was full has room again.
    bool stop = false;
    bool empty() const {
      return submitted.empty() && cancelled.empty() && finished.empty() && releases.empty() && !space && !stop;
    }
  };
  // What the loop's thread shares with others. Outboxes hold on to it, as a consumer may report space after the engine
  // has gone.
  struct Mailbox {
    Mutex mutex;
    Inbox inbox ABSL_GUARDED_BY(mutex);
    Ticket next_ticket ABSL_GUARDED_BY(mutex) = 1;
    EngineStats stats ABSL_GUARDED_BY(mutex);
    std::vector<RequestRow> requests ABSL_GUARDED_BY(mutex);
    absl::Time step_began ABSL_GUARDED_BY(mutex) = absl::InfiniteFuture();  // InfiniteFuture: no step is running.
  };

  void Run();
  Inbox WaitForInbox(bool idle);
  void Intake(Inbox inbox);
  void Publish(bool idle);

  const RealClock clock_;
  absl::Time next_requests_;
  EngineCore core_;  // Belongs to the thread, but for what any thread may call.
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::thread thread_;  // Last: starts when all else is there.
};

}  // namespace lukv
