// absl::StrCat that also takes std::string_view. (The distribution's abseil is built for C++14: its string_view is a
// type of its own, and std::string_view does not convert to it.)
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lukv {

template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  const auto convert = []<typename T>(const T& part) -> decltype(auto) {
    if constexpr (std::is_same_v<T, std::string_view>) {
      return absl::string_view(part.data(), part.size());
    } else {
      return (part);
    }
  };
  return absl::StrCat(convert(parts)...);
}

}  // namespace lukv
