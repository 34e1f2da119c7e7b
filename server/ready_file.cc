#include "server/ready_file.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/file.h"

namespace lukv {

absl::Status WriteReadyFile(const std::string& path, const std::string& listen, const std::string& metrics) {
  const std::string json = nlohmann::json({{"listen", listen}, {"metrics", metrics}}).dump() + "\n";
  const absl::Status status = WriteWholeFile(path, json);
  return status.ok() ? status
                     : absl::Status(status.code(), absl::StrCat("--ready-file: ", std::string(status.message())));
}

}  // namespace lukv
