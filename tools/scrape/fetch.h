// Fetches a server's metrics page.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lukv {

// The body of http://ADDRESS/metrics; `address` is host:port. UNAVAILABLE: nobody answers there, or not with a page.
// Waits for the answer; any thread.
absl::StatusOr<std::string> FetchMetrics(const std::string& address, absl::Duration timeout = absl::Seconds(5));

}  // namespace lukv
