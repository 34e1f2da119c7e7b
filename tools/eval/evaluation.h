// An evaluation from its request to its results: tasks x lengths x samples, all policies of a sample together.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/policy.h"
#include "tools/eval/eval_model.h"
#include "tools/eval/prompt.h"
#include "tools/eval/report.h"
#include "tools/eval/text.h"
#include "tools/progress/progress.h"

namespace lukv {

struct EvaluationRequest {
  std::vector<std::string> tasks;  // ParseTasks
  std::vector<int32_t> lengths;    // Tokens of a sample with its answer; nll: of the context.
  int32_t samples = 1;             // Per task and length.
  std::vector<Policy> policies;
  PromptStyle style = PromptStyle::kCompletion;
  uint64_t seed = 0;
  std::string longbench;  // Folder with the published JSONL files.
  std::string nll_text;   // The text whose continuation is judged.
};

// Tokens of a continuation that nll judges.
inline constexpr int32_t kContinuation = 512;

// Room in tokens that the longest sample takes.
int32_t LongestSample(const EvaluationRequest& request);

// Policies by their names; a name without "@" stands for one policy per ratio. INVALID_ARGUMENT names the wrong one.
absl::StatusOr<std::vector<Policy>> ParsePolicies(const std::vector<std::string>& names,
                                                  const std::vector<double>& ratios);

// One result per task, length and policy. `progress` counts samples. CANCELLED as the model's.
absl::StatusOr<std::vector<EvalResult>> Evaluate(EvalModel& model, const EvaluationRequest& request,
                                                 const EvalText& text,
                                                 const std::function<void(const Progress&)>& progress);

}  // namespace lukv
