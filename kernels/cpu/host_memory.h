// How much memory this host has.
#pragma once

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace lukv::cpu {

// What the process may use: the machine's memory or, if it is less, its control group's limit (cgroup v2).
absl::StatusOr<MemoryInfo> HostMemory();

}  // namespace lukv::cpu
