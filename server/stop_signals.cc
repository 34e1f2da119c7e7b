#include "server/stop_signals.h"

#include <cstdlib>

namespace lukv {

StopSignals::StopSignals() : thread_([this](int signal) { OnSignal(signal); }) {}

void StopSignals::OnSignal(int signal) {
  MutexLock lock(&mutex_);
  if (signalled_) std::_Exit(128 + signal);
  if (!waited_for_) std::_Exit(0);
  signalled_ = true;
}

void StopSignals::Wait() {
  MutexLock lock(&mutex_);
  waited_for_ = true;
  mutex_.Await([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return signalled_; });
}

}  // namespace lukv
