// The 13 tasks of RULER (Hsieh et al. 2024, arXiv 2404.06654), made from a seed at any length. Task definitions are the
// published ones (NVIDIA/RULER, scripts/data/synthetic); texts and words are ours.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tools/eval/prompt.h"
#include "tools/eval/sample.h"
#include "tools/eval/text.h"

namespace lukv {

struct RulerRequest {
  std::string_view task;  // One of RulerTaskNames().
  int32_t length = 0;     // Tokens of context, question and answer together, at most.
  uint64_t seed = 0;
  int32_t index = 0;  // Of the sample. Samples of one seed, task and length differ.
};

// niah_single_1, ..., qa_2. The first 8 are the needle tasks.
std::span<const std::string_view> RulerTaskNames();

// The largest haystack that fits in the length. The same request gives the same sample. INVALID_ARGUMENT: an unknown
// task, or a length that not even the smallest haystack fits in.
absl::StatusOr<EvalSample> MakeRulerSample(const RulerRequest& request, const EvalText& text,
                                           const PromptFormat& format);

}  // namespace lukv
