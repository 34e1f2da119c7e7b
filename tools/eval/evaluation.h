// All tasks at all lengths under all policies.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "engine/model/runner.h"
#include "tools/eval/options.h"
#include "tools/eval/prompt.h"
#include "tools/eval/report.h"
#include "tools/eval/runner_eval.h"
#include "tools/eval/text.h"
#include "tools/progress/progress.h"

namespace lukv {

// Pages for as many policies at once as the memory has room for. INVALID_ARGUMENT: a length that is more than the
// model's context, or that does not fit in memory once.
absl::StatusOr<RunnerOptions> EvalRunnerOptions(const ModelConfig& config, const EvalCommand& command);

class Evaluation {
 public:
  // Everything must outlive it.
  Evaluation(const EvalCommand& command, const EvalText& text, const PromptFormat& format, PolicyRunner& runner);

  // Finds what is wrong with tasks, lengths and files, so that it is not found after an hour.
  absl::Status Check() const;

  // In the order of lengths, tasks, policies. `progress` counts samples. CANCELLED when the runner was stopped.
  absl::StatusOr<std::vector<EvalResult>> Run(const std::function<void(const Progress&)>& progress);

 private:
  absl::Status RunTask(const std::string& task, int32_t length, const std::function<void()>& sample_done,
                       std::vector<EvalResult>& results);
  absl::Status RunNll(int32_t length, const std::function<void()>& sample_done, std::vector<EvalResult>& results);
  absl::StatusOr<std::string> NllText() const;

  const EvalCommand& command_;
  const EvalText& text_;
  const PromptFormat& format_;
  PolicyRunner& runner_;
};

}  // namespace lukv
