// A fixed set of worker threads for loops over independent tasks.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace lukv {

// One thread at a time calls ParallelFor. Workers sleep when idle (they spin for a few microseconds first, as decode
// issues many short loops in a row).
class ThreadPool {
 public:
  // REQUIRES: threads >= 1. The calling thread is one of them.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls body(task, thread) for each task in [0, n_tasks), thread in [0, threads()); returns when all are done. Tasks
  // are taken one by one in ascending order, so uneven tasks balance. Results must not depend on who runs what.
  void ParallelFor(int64_t n_tasks, absl::FunctionRef<void(int64_t task, int thread)> body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lukv
