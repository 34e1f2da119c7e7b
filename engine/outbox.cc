#include "engine/outbox.h"

#include <utility>

#include "base/check.h"

namespace lukv {

Outbox::Outbox(size_t capacity, std::function<void()> on_ready) : capacity_(capacity), on_ready_(std::move(on_ready)) {
  LUKV_CHECK(capacity > 0);
}

void Outbox::Push(Event event) {
  bool wake;
  {
    MutexLock lock(&mutex_);
    LUKV_CHECK(!done_);
    done_ = std::holds_alternative<DoneEvent>(event);
    wake = events_.empty() || done_;
    events_.push_back(std::move(event));
  }
  if (wake && on_ready_) on_ready_();
}

bool Outbox::HasSpace(size_t events) {
  MutexLock lock(&mutex_);
  if (events_.empty() || events_.size() + events <= capacity_) return true;
  refused_ = true;
  return false;
}

void Outbox::SetOnSpace(std::function<void()> on_space) {
  MutexLock lock(&mutex_);
  on_space_ = std::move(on_space);
}

std::vector<Event> Outbox::TakeLocked(std::function<void()>& on_space) {
  if (refused_ && !events_.empty()) {
    refused_ = false;
    on_space = on_space_;
  }
  return std::exchange(events_, {});
}

std::optional<absl::Status> Outbox::Ended() const {
  MutexLock lock(&mutex_);
  if (events_.empty()) return std::nullopt;
  const auto* done = std::get_if<DoneEvent>(&events_.back());
  return done != nullptr ? std::optional(done->status) : std::nullopt;
}

std::vector<Event> Outbox::Take() {
  std::function<void()> on_space;
  std::vector<Event> taken;
  {
    MutexLock lock(&mutex_);
    taken = TakeLocked(on_space);
  }
  if (on_space) on_space();
  return taken;
}

std::vector<Event> Outbox::WaitAndTake(absl::Time deadline) {
  std::function<void()> on_space;
  std::vector<Event> taken;
  {
    MutexLock lock(&mutex_);
    mutex_.AwaitWithDeadline([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !events_.empty(); }, deadline);
    taken = TakeLocked(on_space);
  }
  if (on_space) on_space();
  return taken;
}

}  // namespace lukv
