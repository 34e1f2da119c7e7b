#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/server.h"

namespace lukv {

// Writes {"listen": ADDRESS, "plaintext": ADDRESS, "health": ADDRESS, "metrics": ADDRESS}, "" where there is none, so
// that a reader sees all of it or no file.
absl::Status WriteReadyFile(const std::string& path, const Server& server);

}  // namespace lukv
