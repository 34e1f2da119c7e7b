// The 16 English tasks of LongBench (Bai et al. 2023, arXiv 2308.14508). The data is the user's: a folder with the
// published NAME.jsonl files, one JSON object a line: input, context, answers, all_classes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/eval/sample.h"

namespace lukv {

// narrativeqa, qasper, ..., repobench-p.
std::span<const std::string_view> LongBenchTaskNames();

// The first `limit` samples of the task's file; empty lines do not count. NOT_FOUND: no such file. INVALID_ARGUMENT
// names the file and the line that is no sample.
absl::StatusOr<std::vector<EvalSample>> ReadLongBench(const std::string& folder, std::string_view task, int32_t limit);

}  // namespace lukv
