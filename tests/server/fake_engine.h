// An engine without a model: follows the contract of engine.h, threads and outbox included, and says what a test wants.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "engine/engine.h"

namespace lukv {

class FakeEngine final : public Engine {
 public:
  // The tokens of a sample. It ends with kStop at an end token or stop id, else with kLength at max_tokens or where the
  // tokens end.
  using Script = std::function<std::vector<TokenId>(const ValidRequest& request, int32_t sample)>;

  static constexpr int32_t kMaxContext = 1000;
  static constexpr uint32_t kPagesPerRequest = 3;
  static constexpr int32_t kMinEvictedContext = 8;
  static constexpr int32_t kCachedTokens = 1;  // Of every prompt.

  FakeEngine(std::vector<TokenId> end_tokens, Script script);
  ~FakeEngine() override;

  Ticket Submit(ValidRequest request, std::shared_ptr<Outbox> outbox) override;
  void Cancel(Ticket ticket) override;
  void Finish(Ticket ticket, int32_t sample, int32_t tokens) override;
  // Of a model with 2 layers of 2 kv heads that has no budget curve.
  static absl::StatusOr<std::shared_ptr<const EvictionPlan>> Plan(const Policy& policy, int32_t context_tokens);
  absl::StatusOr<std::shared_ptr<const EvictionPlan>> MakePlan(const Policy& policy,
                                                               int32_t context_tokens) const override {
    return Plan(policy, context_tokens);
  }
  const CurveSet& curves() const override { return curves_; }
  EngineStats Stats() const override;
  bool ReleaseContext(const ContextKey&) override { return false; }
  std::vector<RequestRow> Requests() const override { return {}; }
  absl::Duration StepAge() const override { return absl::Nanoseconds(step_age_ns_.load()); }
  const ModelInfo& info() const override { return info_; }

  // What Stats() says beside what the running requests are.
  void SetStats(EngineStats stats);
  // Tokens are made only while the gate is open (the default).
  void SetGate(bool open);
  // What StepAge() says.
  void SetStepAge(absl::Duration age) { step_age_ns_ = absl::ToInt64Nanoseconds(age); }
  // Ends the requests that are parked behind full outboxes, as the engine does after a while.
  void GiveUpParked();
  // The next Submit is refused with this.
  void RefuseNext(absl::Status status);
  // Waits until so many tokens have been made or all requests are parked behind full outboxes. Whether the latter.
  bool WaitUntilParkedOr(int64_t tokens);
  int64_t tokens_made() const;

 private:
  struct Sample {
    std::vector<TokenId> script;
    int32_t made = 0;
    bool finished = false;
  };
  struct Request {
    ValidRequest request;
    std::shared_ptr<Outbox> outbox;
    std::vector<Sample> samples;
    bool cancelled = false;
    bool given_up = false;
    bool parked = false;
  };

  void Run();
  bool Runnable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One turn of a request; whether it is over.
  bool Step(Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(Request& request, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<TokenId> end_tokens_;
  const Script script_;
  ModelInfo info_;
  const CurveSet curves_;
  std::atomic<int64_t> step_age_ns_ = 0;
  mutable Mutex mutex_;
  std::map<Ticket, Request> requests_ ABSL_GUARDED_BY(mutex_);
  Ticket next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t tokens_made_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status refuse_next_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lukv
