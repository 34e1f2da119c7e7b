// Shapes of published models, for runs without their weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"

namespace lukv {

// "llama-3.1-8b", "llama-3.2-1b", "qwen2.5-7b", "smollm2-135m", and "tiny", which is no published model.
std::vector<std::string> PresetNames();

// INVALID_ARGUMENT names those that there are.
absl::StatusOr<ModelConfig> PresetConfig(const std::string& name);

// Elements of all tensors; tied ones count once.
int64_t ParameterCount(const ModelConfig& config);

}  // namespace lukv
