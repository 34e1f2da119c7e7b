// A file mapped read-only into memory.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lukv {

// The mapping lives as long as the object. A file that is cut short by somebody else while it is mapped ends the
// process with SIGBUS when the lost pages are touched: model files are replaced by rename, not rewritten in place.
class MappedFile {
 public:
  // One-line errors that begin with the path: NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (a directory or another
  // thing that is not a regular file).
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view contents() const { return contents_; }
  // The process holds none of it in memory until it is touched again.
  void LetGo() const;

 private:
  explicit MappedFile(std::string_view contents) : contents_(contents) {}
  std::string_view contents_;
};

// The same error with "<where>: " in front; OK stays OK.
absl::Status Prefixed(const absl::Status& status, std::string_view where);

}  // namespace lukv
