// Reading fields of foreign JSON with errors that say which field is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lukv {

// INVALID_ARGUMENT with the place at fault.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text);

// The member, or null (JSON's null too) when there is none. REQUIRES: the result does not outlive `object`.
const nlohmann::json* FindMember(const nlohmann::json& object, const char* key);

// INVALID_ARGUMENT when the member is missing or has another type; `where` names the object in the message.
absl::StatusOr<const nlohmann::json*> GetObject(const nlohmann::json& object, const char* key, const char* where);
absl::StatusOr<const nlohmann::json*> GetArray(const nlohmann::json& object, const char* key, const char* where);
absl::StatusOr<std::string> GetString(const nlohmann::json& object, const char* key, const char* where);
// The member or `fallback` when there is none.
absl::StatusOr<bool> GetBoolOr(const nlohmann::json& object, const char* key, bool fallback, const char* where);

// A token id: 0 <= id < 2^31.
absl::StatusOr<int32_t> AsTokenId(const nlohmann::json& value, const std::string& what);

// The value as JSON text for a message, cut when long.
std::string Shown(const nlohmann::json& value);

}  // namespace lukv
