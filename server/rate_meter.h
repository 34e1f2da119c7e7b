// How fast a counter grows.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace lukv {

// Any thread may call any method.
class RateMeter {
 public:
  // Growth per second since an earlier call that was at least a second ago; 0 before there is one. Whoever asks more
  // often gets the last answer again.
  double Rate(absl::Time now, int64_t count) {
    MutexLock lock(&mutex_);
    if (!since_.has_value()) {
      since_ = Reading{now, count};
    } else if (const absl::Duration passed = now - since_->at; passed >= absl::Seconds(1)) {
      rate_ = static_cast<double>(count - since_->count) / absl::ToDoubleSeconds(passed);
      since_ = Reading{now, count};
    }
    return rate_;
  }

 private:
  struct Reading {
    absl::Time at;
    int64_t count;
  };
  Mutex mutex_;
  std::optional<Reading> since_ ABSL_GUARDED_BY(mutex_);
  double rate_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lukv
