// One Generate call: a reactor that carries the engine's events to the wire.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "lukv/v1/inference.pb.h"
#include "server/call_registry.h"
#include "server/executor.h"
#include "server/metrics.h"
#include "server/sample_text.h"
#include "server/validate.h"

namespace lukv {

// What all calls of a served model share; outlives them.
struct CallContext {
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
  Executor* executor = nullptr;
  CallRegistry* registry = nullptr;
  Metrics* metrics = nullptr;
};

// Engine thread: pushes into the outbox, whose on_ready posts Pump() to the executor. Executor or gRPC thread: Pump()
// turns what is there into one message, and writes it if no write is outstanding. A slow client therefore leaves its
// events in the outbox; when that is full the engine parks the request.
// The call owns itself from Start() to OnDone().
class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                           public AbortableCall,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  // Registers and submits; the reactor to give to gRPC.
  static grpc::ServerWriteReactor<v1::GenerateResponse>* Start(const CallContext& context, GenerateInput input);

  explicit GenerateCall(const CallContext& context) : context_(context) {}

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Abort(const absl::Status& status) override;

 private:
  struct Sample {
    SampleText text;
    bool finished = false;  // For this side; events of the engine that still come are not for the client.
    absl::Time last_token = absl::InfinitePast();
    int32_t arrived = 0;  // Tokens in the message that is being made.
  };

  void Submit(GenerateInput input);
  void Pump();
  // Turns events into response_. The DoneEvent, if it was among them.
  std::optional<DoneEvent> Consume(std::vector<Event> events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnToken(const TokenEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnFinish(const FinishEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The delta of a sample in response_.
  v1::Delta& DeltaOf(int32_t sample) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillLogprob(const TokenLogprob& logprob, v1::TokenLogprob& out) const;
  void ObserveTokens() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const DoneEvent& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Account(const DoneEvent& done, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallContext context_;
  const absl::Time arrival_ = absl::Now();
  // Written before the call is known to other threads.
  std::string id_;
  std::vector<std::string> stops_;
  std::vector<TokenId> silent_ids_;  // End a sample and have no text.
  bool logprobs_ = false;
  std::string policy_;
  std::shared_ptr<Outbox> outbox_;
  std::shared_ptr<GenerateCall> self_;

  Mutex mutex_;
  Ticket ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Sample> samples_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateResponse response_ ABSL_GUARDED_BY(mutex_);  // gRPC reads it while writing_.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // Nobody reads any more.
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // Finish was called.
  bool first_token_seen_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status abort_status_ ABSL_GUARDED_BY(mutex_);  // Not OK: what to tell instead of the engine's CANCELLED.
};

// A reactor that ends the call at once.
grpc::ServerWriteReactor<v1::GenerateResponse>* RefuseGenerate(const grpc::Status& status);

}  // namespace lukv
