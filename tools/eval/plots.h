// Pictures of an evaluation: score over compression ratio.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/eval/report.h"
#include "tools/eval/svg_chart.h"

namespace lukv {

struct Plot {
  std::string file;  // "niah-1500.svg"
  Chart chart;
};

// One for each group of tasks and each length; a point is the mean over the group's tasks.
std::vector<Plot> MakePlots(std::span<const EvalResult> results);

// Into an existing folder.
absl::Status WritePlots(std::span<const EvalResult> results, const std::string& folder);

}  // namespace lukv
