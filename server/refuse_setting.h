// How a wrong setting is told: the flag, what it got and what is allowed, in one line.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace lukv {

inline absl::Status RefuseSetting(const std::string& flag, const std::string& got, const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": got ", got, "; ", allowed));
}

inline std::string SettingText(absl::Duration value) { return absl::FormatDuration(value); }
template <typename Number>
std::string SettingText(Number value) {
  return absl::StrCat(value);
}

// [least, most]
template <typename T>
absl::Status CheckRange(const std::string& flag, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return RefuseSetting(flag, SettingText(value),
                       absl::StrCat("allowed are ", SettingText(least), " to ", SettingText(most)));
}

}  // namespace lukv
