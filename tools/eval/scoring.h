// What an answer is worth.
#pragma once

#include <string_view>

#include "tools/eval/sample.h"

namespace lukv {

// 0 to 100. RULER's metrics look for the references as they stand, without regard to case; LongBench's are those of
// text_metrics.h, the best over the references.
double ScoreAnswer(const EvalSample& sample, std::string_view answer);

// Whether nothing that may follow the answer can change its score.
bool ScoreIsFinal(const EvalSample& sample, std::string_view answer);

}  // namespace lukv
