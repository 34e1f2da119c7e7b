// SIGINT and SIGTERM as something to wait for.
#pragma once

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace lukv {

// The first signal releases Wait(); a second one ends the process at once with 128 + its number. While nobody has come
// to Wait() yet (the model is being loaded) the first one ends it, too, with 0: there is nothing to finish.
// REQUIRES: made before any other thread, and once.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  void Wait();

 private:
  void Run();

  absl::Mutex mutex_;
  bool waited_for_ ABSL_GUARDED_BY(mutex_) = false;
  bool signalled_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lukv
