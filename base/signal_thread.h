// SIGINT and SIGTERM, delivered on a thread where everything is allowed.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace lukv {

// REQUIRES: made before any other thread (they must inherit the signal mask), and once.
class SignalThread {
 public:
  explicit SignalThread(std::function<void(int signal)> on_signal);
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  void Run(const std::function<void(int)>& on_signal);

  std::atomic<bool> quit_ = false;
  std::thread thread_;
};

}  // namespace lukv
