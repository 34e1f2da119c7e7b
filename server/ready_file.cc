#include "server/ready_file.h"

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace lukv {

absl::Status WriteReadyFile(const std::string& path, const std::string& listen, const std::string& metrics) {
  const std::string part = absl::StrCat(path, ".part");
  std::ofstream file(part, std::ios::trunc);
  file << nlohmann::json({{"listen", listen}, {"metrics", metrics}}).dump() << "\n";
  file.close();
  if (!file || std::rename(part.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write --ready-file ", path));
  }
  return absl::OkStatus();
}

}  // namespace lukv
