#include "tools/eval/json_strings.h"

#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/tokenizer/json_fields.h"

namespace lukv {

absl::StatusOr<std::vector<std::string>> GetStrings(const nlohmann::json& object, const char* key, const char* where) {
  LUKV_ASSIGN_OR_RETURN(const nlohmann::json* const list, GetArray(object, key, where));
  std::vector<std::string> strings;
  for (const nlohmann::json& item : *list) {
    if (!item.is_string()) {
      return absl::InvalidArgumentError(StrCat(where, ".", key, " holds ", Shown(item), ", not strings alone"));
    }
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

}  // namespace lukv
