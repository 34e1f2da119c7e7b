// Settings of lukv-eval.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/settings.h"
#include "engine/evict/policy.h"
#include "tools/eval/prompt.h"

namespace lukv {

struct EvalCommand {
  std::string model;
  std::vector<std::string> tasks;  // Names of tasks, each once.
  std::vector<int32_t> lengths = {4096};
  int32_t samples = 10;
  std::vector<Policy> policies;  // The first is full.
  PromptStyle style = PromptStyle::kCompletion;
  uint64_t seed = 1;
  std::string json;       // Empty: not written.
  std::string plot;       // Folder; empty: none.
  std::string longbench;  // Folder
  std::string text;       // File; empty: the chronicle.
  std::string curves;     // Folder; empty: searched for.
  std::string data;
  std::string device = "auto";
  int32_t threads = 0;
  int64_t kv_memory = 0;  // Bytes
};

std::variant<EvalCommand, ExitRequest> ParseEvalCommand(int argc, const char* const* argv);

}  // namespace lukv
