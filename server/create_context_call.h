// One CreateContext call: a request without output, whose context is there when it ends.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "lukv/v1/inference.pb.h"
#include "server/api_keys.h"
#include "server/call_registry.h"
#include "server/context_directory.h"
#include "server/executor.h"
#include "server/validate.h"

namespace lukv {

// What such calls share; outlives them.
struct ContextCallParts {
  Engine* engine = nullptr;
  Executor* executor = nullptr;
  CallRegistry* registry = nullptr;
  ContextDirectory* directory = nullptr;
};

// Owns itself from Start() to OnDone().
class CreateContextCall final : public grpc::ServerUnaryReactor,
                                public AbortableCall,
                                public std::enable_shared_from_this<CreateContextCall> {
 public:
  // The id is reserved already.
  static grpc::ServerUnaryReactor* Start(const ContextCallParts& parts, ContextInput input, KeyUse key,
                                         v1::CreateContextResponse* response);

  CreateContextCall(const ContextCallParts& parts, v1::CreateContextResponse* response)
      : parts_(parts), response_(response) {}

  void OnCancel() override;
  void OnDone() override;
  void Abort(const absl::Status& status) override;

 private:
  void Submit(ContextInput input);
  void OnEvents();
  void Fill(const Usage& usage);

  const ContextCallParts parts_;
  const absl::Time arrival_ = absl::Now();
  v1::CreateContextResponse* const response_;
  // Written before the call is known to other threads.
  KeyUse key_;
  std::string request_id_;
  std::string context_id_;
  std::string tenant_;
  std::string policy_;
  std::shared_ptr<Outbox> outbox_;
  std::shared_ptr<CreateContextCall> self_;

  Mutex mutex_;
  Ticket ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status abort_status_ ABSL_GUARDED_BY(mutex_);  // Not OK: what to tell instead of the engine's CANCELLED.
};

}  // namespace lukv
