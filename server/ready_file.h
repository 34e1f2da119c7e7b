#pragma once

#include <string>

#include "absl/status/status.h"

namespace lukv {

// Writes {"listen": ADDRESS, "metrics": ADDRESS} so that a reader sees all of it or no file.
absl::Status WriteReadyFile(const std::string& path, const std::string& listen, const std::string& metrics);

}  // namespace lukv
