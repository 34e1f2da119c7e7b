// The running Generate calls of a server, by tenant and request id: who may come in, who is still there.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace lukv {

// What the registry needs of a call.
class AbortableCall {
 public:
  virtual ~AbortableCall() = default;
  // Ends the call with `status` as soon as the engine lets go of it.
  virtual void Abort(const absl::Status& status) = 0;
};

// Any thread may call any method.
class CallRegistry {
 public:
  // ALREADY_EXISTS while another call of the tenant has the id; UNAVAILABLE once closed.
  absl::Status Add(const std::string& tenant, const std::string& id, std::weak_ptr<AbortableCall> call);
  void Remove(const std::string& tenant, const std::string& id);
  // Does nothing if there is no such call.
  void Abort(const std::string& tenant, const std::string& id, const absl::Status& status);

  // From now on nobody comes in.
  void Close();
  // Whether all calls were gone before the deadline.
  bool WaitUntilEmpty(absl::Time deadline);
  void AbortAll(const absl::Status& status);

 private:
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::pair<std::string, std::string>, std::weak_ptr<AbortableCall>> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lukv
