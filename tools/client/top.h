// lukv-client top: what a server does, from its metrics page.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "tools/scrape/server_reading.h"

namespace lukv {

struct TopOptions {
  std::string metrics = "127.0.0.1:9400";  // host:port
  std::string interval = "1s";
  bool once = false;
};

// One view, several lines: gauges as they are in `now`; rates and latencies from what happened since `before`.
std::string TopView(const std::string& address, const ServerReading& before, const ServerReading& now);

// On a terminal one view in place of the other, elsewhere one after the other, until a signal ends the process; with
// `once` one of them. UNAVAILABLE: the page cannot be read (with `once` or at the start; later it is waited for).
// REQUIRES: the interval is a duration > 0.
absl::Status RunTop(const TopOptions& options);

}  // namespace lukv
