// Lists of strings in foreign JSON; goes with engine/tokenizer/json_fields.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lukv {

// INVALID_ARGUMENT when the member is missing, or not a list of strings.
absl::StatusOr<std::vector<std::string>> GetStrings(const nlohmann::json& object, const char* key, const char* where);

}  // namespace lukv
