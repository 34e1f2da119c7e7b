// What lukv-bench does, without the program around it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tools/bench/options.h"

namespace lukv {

// What is to be printed.
absl::StatusOr<std::string> RunBench(const BenchOptions& options);

}  // namespace lukv
