// What time it is. Engine code asks a Clock, so that tests can run it on a time of their own.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lukv {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace lukv
