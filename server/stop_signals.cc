#include "server/stop_signals.h"

#include <pthread.h>

#include <csignal>
#include <cstdlib>

#include "base/check.h"

namespace lukv {
namespace {

// Tells the thread to end.
constexpr int kQuit = SIGUSR1;

sigset_t WaitedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, kQuit);
  return set;
}

}  // namespace

StopSignals::StopSignals() {
  // Threads made from now on inherit the mask, so that only ours takes these signals.
  const sigset_t set = WaitedSignals();
  LUKV_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  thread_ = std::thread([this] { Run(); });
}

StopSignals::~StopSignals() {
  pthread_kill(thread_.native_handle(), kQuit);
  thread_.join();
}

void StopSignals::Run() {
  const sigset_t set = WaitedSignals();
  while (true) {
    int signal = 0;
    LUKV_CHECK(sigwait(&set, &signal) == 0);
    if (signal == kQuit) return;
    absl::MutexLock lock(&mutex_);
    if (signalled_) std::_Exit(128 + signal);
    if (!waited_for_) std::_Exit(0);
    signalled_ = true;
  }
}

void StopSignals::Wait() {
  absl::MutexLock lock(&mutex_);
  waited_for_ = true;
  mutex_.Await(absl::Condition(&signalled_));
}

}  // namespace lukv
