// How a refused file is checked: by code, and by the words a person would look for.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"

namespace lukv {

// The status has this code, and its message holds `words` and is one line.
inline void ExpectStatus(const absl::Status& status, absl::StatusCode code, const std::string& words) {
  EXPECT_EQ(status.code(), code) << status;
  const std::string message(status.message());
  EXPECT_THAT(message, testing::HasSubstr(words));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

}  // namespace lukv
