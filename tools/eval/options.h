// What lukv-eval was asked to do.
#pragma once

#include <string>
#include <variant>

#include "base/settings.h"
#include "tools/eval/eval_model.h"
#include "tools/eval/evaluation.h"

namespace lukv {

struct EvalCommand {
  EvalModelOptions model;
  EvaluationRequest request;  // Without nll_text.
  std::string data;           // Folder of the samples' texts.
  std::string text;           // File for nll; "": the essays of `data`.
  std::string json;           // File; "": none.
  std::string plots;          // Folder; "": none.
};

std::variant<EvalCommand, ExitRequest> ParseEvalCommand(int argc, const char* const* argv);

}  // namespace lukv
