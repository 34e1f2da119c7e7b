#include "base/share_folder.h"

#include <filesystem>
#include <system_error>

namespace lukv {

std::string ShareFolder(std::string_view name) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "share" / "lukv" / name).string();
}

}  // namespace lukv
