#include "kernels/cpu/host_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

namespace lukv::cpu {
namespace {

// The number in a file that holds one; none if it is not there or holds a word ("max").
std::optional<size_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  size_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

}  // namespace

absl::StatusOr<MemoryInfo> HostMemory() {
  MemoryInfo info{.host = true};
  std::ifstream file("/proc/meminfo");
  std::string name;
  size_t kibibytes = 0;
  std::string unit;
  while (file >> name >> kibibytes && std::getline(file, unit)) {
    if (name == "MemTotal:") info.total_bytes = kibibytes * 1024;
    if (name == "MemAvailable:") info.free_bytes = kibibytes * 1024;
  }
  if (info.total_bytes == 0) return absl::InternalError("/proc/meminfo does not say how much memory there is");
  const std::string group = "/sys/fs/cgroup/";
  if (const auto limit = NumberIn(group + "memory.max"); limit.has_value() && *limit < info.total_bytes) {
    info.total_bytes = *limit;
    const size_t used = NumberIn(group + "memory.current").value_or(0);
    info.free_bytes = std::min(info.free_bytes, *limit - std::min(used, *limit));
  }
  return info;
}

}  // namespace lukv::cpu
