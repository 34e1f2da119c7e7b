// LU-KV's offline protocol over calibration texts and their questions: budget curves out of a model's own answers.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/evict/budget_curve.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "tools/profile/profiled_context.h"

namespace lukv {

// A calibration text as the model reads it.
struct ProfileText {
  std::string name;  // For messages.
  std::vector<TokenId> context;
  std::vector<std::vector<TokenId>> questions;
};

struct ProfileSettings {
  std::vector<ProfileScorer> scorers;
  AnswerOptions answer;     // The seed is mixed with the text and the question.
  std::string work_folder;  // Results of single questions are kept here until all are there; made if missing.
};

// A runner that has room for any of the texts with its longest question and an answer. INVALID_ARGUMENT, with the sums:
// that is more than the model's context, or a context has no token that some scorer does not protect, or no question.
// RESOURCE_EXHAUSTED: more than kv_memory bytes of pages.
absl::StatusOr<RunnerOptions> ProfileRunnerOptions(const ModelConfig& config, std::span<const ProfileText> texts,
                                                   const ProfileSettings& settings, int64_t kv_memory);

// Questions, each answered once for all scorers.
struct ProfileProgress {
  int32_t total = 0;
  int32_t done = 0;
  int32_t found = 0;  // Of those done: by an earlier run that did not come to its end.
};

struct Profile {
  std::vector<BudgetCurve> curves;      // One per scorer, in their order.
  std::vector<std::string> work_files;  // No longer needed once the curves are saved.
};

// Results of a run that was stopped are taken from the work folder as far as everything that they depend on is the
// same, and the curves come out the same to the bit. `progress` is called at the start and after each question.
// CANCELLED when `stop` is set; what is done is kept. REQUIRES: a runner made for ProfileRunnerOptions.
absl::StatusOr<Profile> MakeProfile(ModelRunner& runner, const WeightSource& weights,
                                    std::span<const ProfileText> texts, const ProfileSettings& settings,
                                    const std::function<void(const ProfileProgress&)>& progress,
                                    const std::atomic<bool>& stop);

}  // namespace lukv
