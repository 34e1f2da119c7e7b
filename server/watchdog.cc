#include "server/watchdog.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace lukv {

Watchdog::Watchdog(absl::Duration limit, std::function<absl::Duration()> step_age,
                   std::function<void(bool moving)> on_change)
    : limit_(limit), step_age_(std::move(step_age)), on_change_(std::move(on_change)), thread_([this] { Run(); }) {}

Watchdog::~Watchdog() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
}

void Watchdog::Run() {
  // Nobody can tell it that nothing happens, so it looks, often enough to be late by little.
  const absl::Duration period = std::min(limit_ / 8, absl::Duration(absl::Seconds(1)));
  bool moving = true;
  const auto stopped = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_; };
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (mutex_.AwaitWithDeadline(stopped, absl::Now() + period)) return;
    }
    const bool moves = step_age_() <= limit_;
    if (moves != moving) on_change_(moves);
    moving = moves;
  }
}

}  // namespace lukv
