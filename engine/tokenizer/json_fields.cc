#include "engine/tokenizer/json_fields.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/quoted.h"

namespace lukv {
namespace {

using Json = nlohmann::json;

absl::Status Wrong(const char* where, const char* key, const Json* found, const char* wanted) {
  if (found == nullptr) return absl::InvalidArgumentError(absl::StrCat(where, ".", key, " is missing"));
  return absl::InvalidArgumentError(absl::StrCat(where, ".", key, " is ", Shown(*found), ", not ", wanted));
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not JSON: ", std::string(error.what()).substr(0, 200)));
  }
}

const Json* FindMember(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<const Json*> GetObject(const Json& object, const char* key, const char* where) {
  const Json* found = FindMember(object, key);
  if (found == nullptr || !found->is_object()) return Wrong(where, key, found, "an object");
  return found;
}

absl::StatusOr<const Json*> GetArray(const Json& object, const char* key, const char* where) {
  const Json* found = FindMember(object, key);
  if (found == nullptr || !found->is_array()) return Wrong(where, key, found, "an array");
  return found;
}

absl::StatusOr<std::string> GetString(const Json& object, const char* key, const char* where) {
  const Json* found = FindMember(object, key);
  if (found == nullptr || !found->is_string()) return Wrong(where, key, found, "a string");
  return found->get<std::string>();
}

absl::StatusOr<bool> GetBoolOr(const Json& object, const char* key, bool fallback, const char* where) {
  const Json* found = FindMember(object, key);
  if (found == nullptr) return fallback;
  if (!found->is_boolean()) return Wrong(where, key, found, "true or false");
  return found->get<bool>();
}

absl::StatusOr<int32_t> AsTokenId(const Json& value, const std::string& what) {
  if (value.is_number_integer()) {
    const bool fits = value.is_number_unsigned()
                          ? value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max())
                          : value.get<int64_t>() >= 0;
    if (fits) return static_cast<int32_t>(value.get<int64_t>());
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has the id ", Shown(value), ", not a whole number below 2^31"));
}

std::string Shown(const Json& value) {
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  // Only the kind of big things: dumping them would recurse as deep as they are nested.
  if (value.is_structured()) {
    return absl::StrCat(value.is_array() ? "an array" : "an object", " of ", value.size(), " entries");
  }
  return value.dump();
}

}  // namespace lukv
