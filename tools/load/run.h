// What lukv-bench --server does, without the program around it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tools/load/options.h"

namespace lukv {

struct LoadOutcome {
  std::string text;  // To be printed.
  bool findings = false;
};

// Writes the files that the options name. Must be called before other threads are started: SIGINT and SIGTERM end the
// run early, with its report.
absl::StatusOr<LoadOutcome> RunLoad(const LoadOptions& options);

}  // namespace lukv
