// Sees when a step of the engine does not come to its end.
#pragma once

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace lukv {

class Watchdog {
 public:
  // Asks `step_age` (Engine::StepAge) from a thread of its own, and tells `on_change` false once it is above `limit`
  // and true once it is not any more. REQUIRES: limit > 0.
  Watchdog(absl::Duration limit, std::function<absl::Duration()> step_age, std::function<void(bool moving)> on_change);
  // Both functions are not called any more.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void Run();

  const absl::Duration limit_;
  const std::function<absl::Duration()> step_age_;
  const std::function<void(bool)> on_change_;
  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lukv
