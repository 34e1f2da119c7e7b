// The way of a request's results from the engine thread to whoever consumes them.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "engine/request.h"

namespace lukv {

// The request is over: OK after every sample's FinishEvent, or the status that ended it. Always the last event, sent
// exactly once for every submitted request.
struct DoneEvent {
  absl::Status status;
  Usage usage = {};
};

using Event = std::variant<TokenEvent, FinishEvent, DoneEvent>;

// A bounded queue with one producer (the engine) and one consumer. Any thread may call any method.
class Outbox {
 public:
  // `on_ready` runs on the producer's thread after a push into an EMPTY box or of the last event, outside the lock; it
  // must be quick, must
  // not call back into the engine and must stay callable until the Outbox is gone. `on_space` runs on the consumer's
  // thread, outside the lock, after the first Take that follows a refusal by HasSpace(); the engine sets it. It may
  // run after the producer has pushed its last event: what it captures must outlive the Outbox (a shared_ptr). Either
  // may be null. A consumer takes everything at once, so there is no fill level to wait for.
  Outbox(size_t capacity, std::function<void()> on_ready);

  // Producer. Never blocks, never drops: the engine asks HasSpace() before it samples and parks the sequence when
  // there is none. Finish and Done events are always accepted; nothing may follow a Done.
  void Push(Event event);
  // Whether so many more events keep within the capacity. An empty box always has space, so that a request with more
  // samples than the capacity still moves. A refusal is remembered: the next Take runs on_space.
  bool HasSpace(size_t events);
  void SetOnSpace(std::function<void()> on_space);

  // Consumer: the status of the DoneEvent if that is among what was not taken yet.
  std::optional<absl::Status> Ended() const;
  // Consumer: all that is there, possibly nothing.
  std::vector<Event> Take();
  // Consumer: waits for at least one event or the deadline (empty result).
  std::vector<Event> WaitAndTake(absl::Time deadline);

 private:
  std::vector<Event> TakeLocked(std::function<void()>& on_space) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t capacity_;
  const std::function<void()> on_ready_;
  mutable Mutex mutex_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  bool refused_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_space_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lukv
