// lukv-client hash-key: a key as a server's file of keys wants it (server/api_keys.h).
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lukv {

// "NAME SHA256" of the key in `input`, without the white space around it. INVALID_ARGUMENT: it could be guessed, or is
// nothing that HTTP can carry.
absl::StatusOr<std::string> KeyLine(const std::string& name, std::string input);

}  // namespace lukv
