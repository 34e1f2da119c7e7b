// Foreign text in messages.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace lukv {

// `text` in quotes, escaped, cut after 80 bytes: what a damaged file holds can be long and need not print.
inline std::string Quoted(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  const std::string shown = absl::CHexEscape(std::string(text.substr(0, kMaxShown)));
  return absl::StrCat("\"", shown, text.size() > kMaxShown ? "...\"" : "\"");
}

}  // namespace lukv
