#include "server/ready_file.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/file.h"

namespace lukv {

absl::Status WriteReadyFile(const std::string& path, const Server& server) {
  const std::string json = nlohmann::json({{"listen", server.address()},
                                           {"plaintext", server.plaintext_address()},
                                           {"health", server.health_address()},
                                           {"metrics", server.metrics_address()}})
                               .dump() +
                           "\n";
  const absl::Status status = WriteWholeFile(path, json);
  return status.ok() ? status
                     : absl::Status(status.code(), absl::StrCat("--ready-file: ", std::string(status.message())));
}

}  // namespace lukv
