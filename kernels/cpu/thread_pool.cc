#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace lukv {
namespace {

// How long an idle worker spins before it sleeps. Waking a sleeper costs the caller a system call and the loop some
// tens of microseconds; the gaps between the loops of a decode step are shorter than this.
constexpr std::chrono::microseconds kSpin{50};

// Calls `done` until it holds or about kSpin has passed; true if it held.
template <typename Done>
bool SpinUntil(const Done& done) {
  if (done()) return true;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      _mm_pause();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

struct ThreadPool::Impl {
  using Body = absl::FunctionRef<void(int64_t, int)>;

  // Written by the caller while no worker is active.
  const Body* body = nullptr;
  int64_t n_tasks = 0;
  uint64_t last_job = 0;

  // The number of the loop that is open for workers, 0 when none is. A worker raises `active` BEFORE it looks at `job`,
  // the caller closes `job` BEFORE it looks at `active` (all sequentially consistent), so a worker that wakes late
  // either sees the loop closed or is waited for; the caller never waits for a worker that still sleeps.
  alignas(64) std::atomic<uint64_t> job{0};
  alignas(64) std::atomic<int> active{0};
  alignas(64) std::atomic<int64_t> next_task{0};

  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;  // Guards nothing but the sleep: the conditions above are atomics.
  std::condition_variable wake;
  std::vector<std::thread> workers;

  void RunTasks(int thread) {
    for (;;) {
      const int64_t task = next_task.fetch_add(1, std::memory_order_relaxed);
      if (task >= n_tasks) return;
      (*body)(task, thread);
    }
  }

  void Work(int thread) {
    uint64_t done_job = 0;
    const auto has_work = [&] {
      const uint64_t open = job.load();
      return (open != 0 && open != done_job) || stop.load();
    };
    for (;;) {
      if (!SpinUntil(has_work)) {
        std::unique_lock<std::mutex> lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, has_work);
        sleepers.fetch_sub(1);
      }
      if (stop.load()) return;
      active.fetch_add(1);
      const uint64_t open = job.load();
      if (open != 0 && open != done_job) {
        done_job = open;
        RunTasks(thread);
      }
      active.fetch_sub(1);
    }
  }

  void Wake() {
    if (sleepers.load() == 0) return;
    // A worker between its last look at `job` and wait() holds the mutex; taking it once closes that gap.
    { std::lock_guard<std::mutex> lock(mutex); }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  LUKV_CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i) impl_->workers.emplace_back([impl = impl_.get(), i] { impl->Work(i); });
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true);
  impl_->Wake();
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::threads() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::ParallelFor(int64_t n_tasks, absl::FunctionRef<void(int64_t task, int thread)> body) {
  Impl& impl = *impl_;
  if (n_tasks <= 1 || impl.workers.empty()) {
    for (int64_t task = 0; task < n_tasks; ++task) body(task, 0);
    return;
  }
  impl.body = &body;
  impl.n_tasks = n_tasks;
  impl.next_task.store(0, std::memory_order_relaxed);
  impl.job.store(++impl.last_job);
  impl.Wake();
  impl.RunTasks(0);
  impl.job.store(0);
  const auto all_left = [&] { return impl.active.load() == 0; };
  // A worker that lost its core may take a time slice to finish: let it have this one.
  while (!SpinUntil(all_left)) std::this_thread::yield();
}

}  // namespace lukv
