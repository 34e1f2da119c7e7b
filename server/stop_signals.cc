#include "server/stop_signals.h"

#include <cstdlib>

namespace lukv {

StopSignals::StopSignals() : thread_([this](int signal) { OnSignal(signal); }) {}

void StopSignals::OnSignal(int signal) {
  absl::MutexLock lock(&mutex_);
  if (signalled_) std::_Exit(128 + signal);
  if (!waited_for_) std::_Exit(0);
  signalled_ = true;
}

void StopSignals::Wait() {
  absl::MutexLock lock(&mutex_);
  waited_for_ = true;
  mutex_.Await(absl::Condition(&signalled_));
}

}  // namespace lukv
