// A time that passes only when somebody says so.
#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "base/clock.h"

namespace lukv {

// Not thread-safe.
class VirtualClock final : public Clock {
 public:
  explicit VirtualClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}

  absl::Time Now() const override { return now_; }
  // REQUIRES: by >= 0.
  void Advance(absl::Duration by) { now_ += by; }
  // Never goes back.
  void AdvanceTo(absl::Time time) { now_ = std::max(now_, time); }

 private:
  absl::Time now_;
};

}  // namespace lukv
