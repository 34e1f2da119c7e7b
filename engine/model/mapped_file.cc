#include "engine/model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "base/str_cat.h"

namespace lukv {

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, path);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat info;
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (S_ISDIR(info.st_mode)) return absl::InvalidArgumentError(StrCat(path, ": is a directory, not a file"));
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(StrCat(path, ": is not a regular file"));
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) return std::unique_ptr<MappedFile>(new MappedFile({}));  // mmap refuses a length of 0.
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, path);
  return std::unique_ptr<MappedFile>(new MappedFile({static_cast<const char*>(data), size}));
}

void MappedFile::LetGo() const {
  // Never written to, so nothing is lost; the system's page cache has it still.
  if (!contents_.empty()) madvise(const_cast<char*>(contents_.data()), contents_.size(), MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!contents_.empty()) munmap(const_cast<char*>(contents_.data()), contents_.size());
}

absl::Status Prefixed(const absl::Status& status, std::string_view where) {
  if (status.ok()) return status;
  return absl::Status(status.code(), StrCat(where, ": ", status.message()));
}

}  // namespace lukv
