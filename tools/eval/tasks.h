// Names of tasks and what is known of them without making a sample.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lukv {

enum class TaskKind : uint8_t { kRuler, kLongBench, kNll };

inline constexpr char kNllTask[] = "nll";

// Each task once, in the order of the names. A name is a task's or a group's: needle (the 8 needle tasks), ruler (all
// 13), longbench (all 16). INVALID_ARGUMENT with the name that is unknown.
absl::StatusOr<std::vector<std::string>> ParseTasks(const std::vector<std::string>& names);

// REQUIRES: `task` is a task's name.
TaskKind KindOf(std::string_view task);

// Tasks that are drawn together: niah, vt_cwe_fwe, qa, longbench, nll.
std::string_view PlotGroup(std::string_view task);

}  // namespace lukv
