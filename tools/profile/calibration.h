// Calibration texts and the questions about them, as files.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/profile/profiler.h"

namespace lukv {

// What a completion model is asked; it goes on after "Answer:". Chat templates play no part. A line of a questions file
// is a question or, behind a tab, also the first words of its answer: small models find the place in the text with
// them and talk beside the point without.
std::string QuestionText(std::string_view line);

// A text and its questions, one per line (empty lines do not count), as tokens; the text begins with the model's
// beginning-of-text token if it wants one. Errors begin with the file's path.
absl::StatusOr<ProfileText> LoadText(const Tokenizer& tokenizer, const std::string& context_path,
                                     const std::string& questions_path);

}  // namespace lukv
