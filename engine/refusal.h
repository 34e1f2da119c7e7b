// Why a request was not served, in a status that its consumer can take apart again.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace lukv {

enum class Refusal : uint8_t {
  kNone,          // The status is none of these.
  kNeverFits,     // INVALID_ARGUMENT: it needs more than the whole server has.
  kQueueFull,     // RESOURCE_EXHAUSTED: too many requests or tokens wait.
  kQueueTimeout,  // RESOURCE_EXHAUSTED: it waited for as long as requests may.
  kDeadline,      // RESOURCE_EXHAUSTED: its deadline cannot be met any more.
  kPinnedFull,    // RESOURCE_EXHAUSTED: pinned contexts hold as many pages as they may.
  kSlowClient,    // ABORTED: nobody took its tokens.
};
// For metrics: "never_fits", "queue_full", ...; "" for kNone.
std::string_view RefusalName(Refusal refusal);

// REQUIRES: refusal != kNone. `retry_after`: when trying again makes sense; zero: it does not.
absl::Status Refused(Refusal refusal, std::string_view message, absl::Duration retry_after = absl::ZeroDuration());
Refusal RefusalOf(const absl::Status& status);
absl::Duration RetryAfter(const absl::Status& status);

}  // namespace lukv
