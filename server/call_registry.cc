#include "server/call_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lukv {

absl::Status CallRegistry::Add(const std::string& tenant, const std::string& id, std::weak_ptr<AbortableCall> call) {
  MutexLock lock(&mutex_);
  if (closed_) return absl::UnavailableError("the server is shutting down");
  if (!calls_.emplace(std::pair(tenant, id), std::move(call)).second) {
    return absl::AlreadyExistsError(absl::StrCat("a call with request_id ", id, " is still running"));
  }
  return absl::OkStatus();
}

void CallRegistry::Remove(const std::string& tenant, const std::string& id) {
  MutexLock lock(&mutex_);
  calls_.erase({tenant, id});
}

void CallRegistry::Abort(const std::string& tenant, const std::string& id, const absl::Status& status) {
  // Abort takes the call's own lock, under which calls come here.
  std::shared_ptr<AbortableCall> call;
  {
    MutexLock lock(&mutex_);
    if (const auto found = calls_.find({tenant, id}); found != calls_.end()) call = found->second.lock();
  }
  if (call != nullptr) call->Abort(status);
}

void CallRegistry::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
}

bool CallRegistry::WaitUntilEmpty(absl::Time deadline) {
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_.empty(); };
  MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(empty, deadline);
}

void CallRegistry::AbortAll(const absl::Status& status) {
  // Abort takes the call's own lock, under which calls come here.
  std::vector<std::shared_ptr<AbortableCall>> calls;
  {
    MutexLock lock(&mutex_);
    for (const auto& [key, weak] : calls_) {
      if (std::shared_ptr<AbortableCall> call = weak.lock()) calls.push_back(std::move(call));
    }
  }
  for (const auto& call : calls) call->Abort(status);
}

}  // namespace lukv
