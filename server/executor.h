// One thread that runs short jobs in order: the side of the calls where tokens become text, so that the engine thread
// only hands over.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace lukv {

class Executor {
 public:
  Executor();
  // Runs what was posted, then joins.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Any thread; never waits for a job.
  void Post(std::function<void()> job);

 private:
  void Run();

  Mutex mutex_;
  std::vector<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lukv
