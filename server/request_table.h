// Live requests as a table for people. No prompts, no answers.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"

namespace lukv {

std::string RequestTable(const std::vector<RequestRow>& rows, absl::Time now);

}  // namespace lukv
