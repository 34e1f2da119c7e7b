#include "server/create_context_call.h"

#include <utility>

#include "absl/time/clock.h"
#include "server/grpc_status.h"
#include "server/kept_tokens.h"

namespace lukv {

grpc::ServerUnaryReactor* CreateContextCall::Start(const ContextCallParts& parts, ContextInput input, KeyUse key,
                                                   v1::CreateContextResponse* response) {
  auto call = std::make_shared<CreateContextCall>(parts, response);
  call->self_ = call;
  call->key_ = std::move(key);
  call->request_id_ = input.request.id;
  call->context_id_ = input.context_id;
  call->tenant_ = input.request.tenant;
  call->policy_ = input.policy;
  if (const absl::Status added = parts.registry->Add(call->tenant_, call->request_id_, call); !added.ok()) {
    parts.directory->Remove(call->tenant_, call->context_id_);
    MutexLock lock(&call->mutex_);
    call->ended_ = true;
    call->Finish(ToGrpcStatus(added, "SHUTTING_DOWN"));
    return call.get();
  }
  call->Submit(std::move(input));
  return call.get();
}

void CreateContextCall::Submit(ContextInput input) {
  MutexLock lock(&mutex_);
  // The box may run this after the call is gone.
  auto on_ready = [weak = weak_from_this(), executor = parts_.executor] {
    executor->Post([weak] {
      if (const std::shared_ptr<CreateContextCall> call = weak.lock()) call->OnEvents();
    });
  };
  outbox_ = std::make_shared<Outbox>(1, std::move(on_ready));
  ticket_ = parts_.engine->Submit(std::move(input.request), outbox_);
  // The registry knew the call before it had a ticket.
  if (!abort_status_.ok()) parts_.engine->Cancel(ticket_);
}

void CreateContextCall::OnEvents() {
  MutexLock lock(&mutex_);
  for (const Event& event : outbox_->Take()) {
    const auto* done = std::get_if<DoneEvent>(&event);
    if (done == nullptr) continue;
    ended_ = true;
    const absl::Status& status = done->status.ok() || abort_status_.ok() ? done->status : abort_status_;
    if (status.ok()) {
      Fill(done->usage);
      parts_.directory->Ready(tenant_, context_id_);
    } else {
      parts_.directory->Remove(tenant_, context_id_);
    }
    key_ = KeyUse();  // Who has read the end may come again at once.
    Finish(ToGrpcStatus(status));
  }
}

void CreateContextCall::Fill(const Usage& usage) {
  response_->set_context_id(context_id_);
  response_->set_context_tokens(usage.prompt_tokens);
  response_->set_policy(policy_);
  AddKept(usage.kept, *response_);
  response_->set_kv_bytes_full(usage.kv_bytes_full);
  response_->set_kv_bytes_resident(usage.kv_bytes_resident);
  response_->set_seconds(absl::ToDoubleSeconds(absl::Now() - arrival_));
}

void CreateContextCall::OnCancel() {
  MutexLock lock(&mutex_);
  if (!ended_) parts_.engine->Cancel(ticket_);
}

void CreateContextCall::Abort(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (ended_) return;
  abort_status_ = status;
  parts_.engine->Cancel(ticket_);
}

void CreateContextCall::OnDone() {
  // Whoever waits for the registry to be empty may destroy what the call uses: let the call go first.
  CallRegistry* registry = parts_.registry;
  const std::string tenant = tenant_;
  const std::string id = request_id_;
  self_.reset();
  registry->Remove(tenant, id);
}

}  // namespace lukv
