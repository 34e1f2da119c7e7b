// One Generate call of either protocol: carries the engine's events to the wire.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "server/call_origin.h"
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

// How a sample ended.
struct SampleEnd {
  int32_t sample = 0;
  FinishReason reason = FinishReason::kStop;
  const std::string* stop = nullptr;  // The stop string that ended it, else null.
  TokenId stop_token = -1;            // The end token or stop id that ended it, else -1.
};

// Engine thread: pushes into the outbox, whose on_ready posts Pump() to the executor. Executor or gRPC thread: Pump()
// turns what is there into messages, and writes the first if no write is outstanding. The outbox is not looked into
// before all of them are written: a slow client leaves its events there; when it is full the engine parks the request.
// The call owns itself from Start() to OnDone().
//
// A protocol overrides how events become messages; all else is here. Its functions run with the call's lock held.
class GenerateCall : public AbortableCall, public std::enable_shared_from_this<GenerateCall> {
 public:
  explicit GenerateCall(const CallContext& context) : context_(context) {}

  // Registers and submits. Not OK: it did neither, and the call is to end with this. Once.
  grpc::Status Start(GenerateInput input, CallOrigin origin);
  void Abort(const absl::Status& status) final;

 protected:
  // A token, and the text that may be shown since. Not called for what the engine makes beyond a stop string.
  virtual void WriteToken(const TokenEvent& event, std::string_view text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // A sample is over, after its last token. `rest`: text that was held back.
  virtual void WriteSampleEnd(const SampleEnd& end, std::string_view rest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // The request is over. What the client is told is the result.
  virtual absl::Status WriteEnd(const absl::Status& status, const Usage& usage)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  // The messages that were made and not written, the first to be written in front.
  virtual size_t MessageCount() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  virtual void PopMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  virtual void StartWriteMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // Writes the only message, if there is one, and ends the call.
  virtual void FinishCall(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  // What the reactor hears from gRPC.
  void HandleWriteDone(bool ok);
  void HandleCancel();
  void HandleDone();

  const CallContext& context() const { return context_; }
  const std::string& policy() const { return policy_; }
  bool logprobs() const { return logprobs_; }
  int32_t prompt_tokens() const { return prompt_tokens_; }
  size_t samples() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return samples_.size(); }

  Mutex mutex_;

 private:
  struct Sample {
    SampleText text;
    bool finished = false;  // For this side; events of the engine that still come are not for the client.
    absl::Time last_token = absl::InfinitePast();
    int32_t arrived = 0;  // Tokens of the events that are being turned into messages.
  };

  void Submit(GenerateInput input, CallOrigin origin);
  void Pump();
  void Consume(const std::vector<Event>& events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnToken(const TokenEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnFinish(const FinishEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnEnd(const DoneEvent& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ObserveTokens() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropMessages() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Account(const DoneEvent& done, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CallContext context_;
  const absl::Time arrival_ = absl::Now();
  CallOrigin origin_ ABSL_GUARDED_BY(mutex_);
  // Written before the call is known to other threads.
  std::string tenant_;
  std::string id_;
  std::vector<std::string> stops_;
  std::vector<TokenId> silent_ids_;  // End a sample and have no text.
  bool logprobs_ = false;
  int32_t prompt_tokens_ = 0;
  std::string policy_;
  std::shared_ptr<Outbox> outbox_;
  std::shared_ptr<GenerateCall> self_;

  Ticket ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Sample> samples_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;              // Nobody reads any more.
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);  // The engine let go of it; what the client is to be told.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;            // FinishCall was called.
  bool first_token_seen_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status abort_status_ ABSL_GUARDED_BY(mutex_);  // Not OK: what to tell instead of the engine's CANCELLED.
};

// The gRPC side of a call that answers with messages of one type.
template <typename Message>
class GenerateReactor : public grpc::ServerWriteReactor<Message>, public GenerateCall {
 public:
  using Response = Message;
  using GenerateCall::GenerateCall;

  void OnWriteDone(bool ok) final { HandleWriteDone(ok); }
  void OnCancel() final { HandleCancel(); }
  void OnDone() final { HandleDone(); }

 protected:
  size_t MessageCount() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) final { return messages_.size(); }
  void PopMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) final { messages_.pop_front(); }
  void StartWriteMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) final { this->StartWrite(&messages_.front()); }
  void FinishCall(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) final {
    if (messages_.empty()) {
      this->Finish(status);
    } else {
      this->StartWriteAndFinish(&messages_.front(), grpc::WriteOptions(), status);
    }
  }

  std::deque<Message> messages_ ABSL_GUARDED_BY(mutex_);  // gRPC reads the first while it is written.
};

// A reactor that ends the call at once.
template <typename Message>
grpc::ServerWriteReactor<Message>* RefuseCall(const grpc::Status& status) {
  class RefusedCall final : public grpc::ServerWriteReactor<Message> {
   public:
    explicit RefusedCall(const grpc::Status& refusal) { this->Finish(refusal); }
    void OnDone() override { delete this; }
  };
  return new RefusedCall(status);
}

// The reactor to give to gRPC for a call of a protocol's class.
template <typename Call, typename... Arguments>
grpc::ServerWriteReactor<typename Call::Response>* StartCall(const CallContext& context, GenerateInput input,
                                                             CallOrigin origin, Arguments... arguments) {
  auto call = std::make_shared<Call>(context, arguments...);
  const grpc::Status started = call->Start(std::move(input), std::move(origin));
  return started.ok() ? call.get() : RefuseCall<typename Call::Response>(started);
}

}  // namespace lukv
