// The way of a request's results from the engine thread to whoever consumes them.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/request.h"

namespace lukv {

// The request is over: OK after every sample's FinishEvent, or the status that ended it. Always the last event, sent
// exactly once for every submitted request.
struct DoneEvent {
  absl::Status status;
  Usage usage;
};

using Event = std::variant<TokenEvent, FinishEvent, DoneEvent>;

// A bounded queue with one producer (the engine) and one consumer. Any thread may call any method.
class Outbox {
 public:
  // `on_ready` runs on the producer's thread after a push into an EMPTY box, outside the lock; it must be quick, must
  // not call back into the engine and must stay callable until the Outbox is gone. `on_space` runs on the consumer's
  // thread when a full box has drained to half; the engine sets it.
  Outbox(size_t capacity, std::function<void()> on_ready);

  // Producer. Never blocks, never drops: the engine asks HasSpace() before it samples and parks the sequence when
  // there is none. Finish and Done events are always accepted.
  void Push(Event event);
  bool HasSpace(size_t events) const;
  void SetOnSpace(std::function<void()> on_space);

  // Consumer: all that is there, possibly nothing.
  std::vector<Event> Take();
  // Consumer: waits for at least one event or the deadline (empty result).
  std::vector<Event> WaitAndTake(absl::Time deadline);

 private:
  const size_t capacity_;
  const std::function<void()> on_ready_;
  mutable absl::Mutex mutex_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  bool was_full_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_space_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lukv
