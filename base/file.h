// Small files as a whole.
#pragma once

#include <cstdint>
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

// Tells whether there is another file under a path than before, without reading it. All zero: there is none.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t bytes = 0;
  int64_t modified_ns = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
FileStamp StampOf(const std::string& path);

}  // namespace lukv
