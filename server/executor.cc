#include "server/executor.h"

#include <utility>

namespace lukv {

Executor::Executor() : thread_([this] { Run(); }) {}

Executor::~Executor() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
}

void Executor::Post(std::function<void()> job) {
  MutexLock lock(&mutex_);
  jobs_.push_back(std::move(job));
}

void Executor::Run() {
  const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_ || !jobs_.empty(); };
  while (true) {
    std::vector<std::function<void()>> jobs;
    {
      MutexLock lock(&mutex_);
      mutex_.Await(has_work);
      if (jobs_.empty()) return;
      jobs.swap(jobs_);
    }
    for (const std::function<void()>& job : jobs) job();
  }
}

}  // namespace lukv
