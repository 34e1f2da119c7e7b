// When to stop serving.
#pragma once

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "base/signal_thread.h"

namespace lukv {

// The first SIGINT or SIGTERM releases Wait(); a second one ends the process at once with 128 + its number. While
// nobody has come to Wait() yet (the model is being loaded) the first one ends it, too, with 0: there is nothing to
// finish. REQUIRES: as SignalThread.
class StopSignals {
 public:
  StopSignals();
  void Wait();

 private:
  void OnSignal(int signal);

  Mutex mutex_;
  bool waited_for_ ABSL_GUARDED_BY(mutex_) = false;
  bool signalled_ ABSL_GUARDED_BY(mutex_) = false;
  SignalThread thread_;
};

}  // namespace lukv
