// Small files as a whole.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lukv {

// One-line errors that begin with the path. NOT_FOUND: no such file. INVALID_ARGUMENT: a folder, or more than
// max_bytes.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, size_t max_bytes);

// A reader sees the old contents or all of the new ones: written beside it as <path>.part, then renamed.
absl::Status WriteWholeFile(const std::string& path, std::string_view contents);

}  // namespace lukv
