// A mutex with clang's thread-safety annotations that ThreadSanitizer understands. (absl::Mutex comes compiled from the
// distribution, so the sanitizer cannot see what it orders and reports every guarded member as a race.)
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace lukv {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }

  void Unlock() ABSL_UNLOCK_FUNCTION() {
    const bool waited_for = waiting_ > 0;
    mutex_.unlock();
    // Whoever changed something under the lock need not know who waits for it.
    if (waited_for) changed_.notify_all();
  }

  // Waits, without the lock, until `condition` holds; it is evaluated under the lock, whenever another thread has let
  // go of it.
  void Await(absl::FunctionRef<bool()> condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this) {
    AwaitWithDeadline(condition, absl::InfiniteFuture());
  }

  // The same until the deadline; returns whether the condition holds.
  bool AwaitWithDeadline(absl::FunctionRef<bool()> condition, absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this) {
    std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
    bool holds = condition();
    // Waiting lets go of the lock as Unlock does, and this thread may have changed what others wait for.
    if (!holds && waiting_ > 0) changed_.notify_all();
    ++waiting_;
    while (!holds) {
      if (deadline == absl::InfiniteFuture()) {
        changed_.wait(lock);
      } else if (changed_.wait_until(lock, absl::ToChronoTime(deadline)) == std::cv_status::timeout) {
        holds = condition();
        break;
      }
      holds = condition();
    }
    --waiting_;
    lock.release();  // Still locked, as the caller had it.
    return holds;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;  // Guarded by mutex_.
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

}  // namespace lukv
