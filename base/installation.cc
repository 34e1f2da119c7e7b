#include "base/installation.h"

#include <filesystem>
#include <system_error>

namespace lukv {

std::string InstallationPath(std::string_view path) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / path).string();
}

std::string ShareFolder(std::string_view name) {
  return InstallationPath((std::filesystem::path("share/lukv") / name).string());
}

}  // namespace lukv
