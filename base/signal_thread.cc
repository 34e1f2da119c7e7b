#include "base/signal_thread.h"

#include <pthread.h>

#include <csignal>
#include <utility>

#include "base/check.h"

namespace lukv {
namespace {

// Wakes the thread so that it can end.
constexpr int kWake = SIGUSR1;

sigset_t WaitedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, kWake);
  return set;
}

}  // namespace

SignalThread::SignalThread(std::function<void(int signal)> on_signal) {
  const sigset_t set = WaitedSignals();
  LUKV_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  thread_ = std::thread([this, on_signal = std::move(on_signal)] { Run(on_signal); });
}

SignalThread::~SignalThread() {
  quit_ = true;
  pthread_kill(thread_.native_handle(), kWake);
  thread_.join();
}

void SignalThread::Run(const std::function<void(int)>& on_signal) {
  const sigset_t set = WaitedSignals();
  while (!quit_) {
    int signal = 0;
    LUKV_CHECK(sigwait(&set, &signal) == 0);
    if (signal != kWake) on_signal(signal);
  }
}

}  // namespace lukv
