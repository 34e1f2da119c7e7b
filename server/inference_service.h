// lukv.v1.Inference on top of a served model.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "lukv/v1/inference.grpc.pb.h"
#include "server/call_origin.h"
#include "server/call_registry.h"
#include "server/context_directory.h"
#include "server/executor.h"
#include "server/gate.h"
#include "server/generate_call.h"
#include "server/metrics.h"
#include "server/served_model.h"
#include "server/validate.h"

namespace lukv {

// Answers UNAVAILABLE until Serve() is called and again after Close().
class InferenceService final : public v1::Inference::CallbackService {
 public:
  // Both must outlive the service.
  InferenceService(Metrics* metrics, const Gate* gate) : metrics_(metrics), gate_(gate) {}
  // REQUIRES: no call is running.
  ~InferenceService() override;

  // Once.
  void Serve(ServedModel model);

  // Takes no more calls.
  void Close();

  // For the other protocols on the same server, whose calls run beside these.
  // OK for a caller with a key that counts, if keys are asked for, and while calls are taken.
  grpc::Status Admit(const grpc::CallbackServerContext& context, Caller& caller) const;
  // Its two parts: OK for such a caller; OK while calls are taken.
  grpc::Status Enter(const grpc::CallbackServerContext& context, Caller& caller) const;
  grpc::Status Open() const;
  // The limits of the caller's key, and where the call comes from: for a call that makes tokens, at its start. Then,
  // once its prompt is known, Queue.
  grpc::Status Begin(grpc::CallbackServerContext& context, const Caller& caller, CallOrigin& origin) const;
  grpc::Status Queue(CallOrigin& origin, const ValidRequest& request) const;
  // REQUIRES: Open() was OK once.
  const ServedModel& model() const { return model_; }
  const RequestLimits& limits() const { return limits_; }
  CallContext Calls();
  CallRegistry& registry() { return registry_; }
  // For a request that brings no id.
  std::string NextRequestId();

  // Running Generate calls: whether they were over at the deadline; and ending them with UNAVAILABLE.
  bool WaitUntilIdle(absl::Time deadline);
  void AbortAll();

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* CreateContext(grpc::CallbackServerContext* context, const v1::CreateContextRequest* request,
                                          v1::CreateContextResponse* response) override;
  grpc::ServerUnaryReactor* DeleteContext(grpc::CallbackServerContext* context, const v1::DeleteContextRequest* request,
                                          v1::DeleteContextResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  enum class State : uint8_t { kLoading, kServing, kClosed };

  Metrics* const metrics_;
  const Gate* const gate_;
  // model_, limits_ and executor_ are written once, before state_ becomes kServing.
  std::atomic<State> state_ = State::kLoading;
  ServedModel model_;
  RequestLimits limits_;
  CallRegistry registry_;
  ContextDirectory contexts_;
  std::unique_ptr<Executor> executor_;
  std::atomic<uint64_t> next_id_ = 1;
};

}  // namespace lukv
