// JSON out of files that nobody vouches for.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace lukv {

// INVALID_ARGUMENT, with the byte at fault: not JSON, a name twice in one object, nested deeper than any model file is.
// (The library alone keeps the last of two equal names, and builds a node per bracket however deep they go.)
absl::StatusOr<nlohmann::json> ParseCheckedJson(std::string_view text);

}  // namespace lukv
