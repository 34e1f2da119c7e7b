// A Hugging Face config.json as a ModelConfig.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"

namespace lukv {

// UNIMPLEMENTED names the model type, RoPE rule or other setting that was found and what is supported; INVALID_ARGUMENT
// names a field that is missing, of another type, or makes no sense. Defaults are those of transformers' config
// classes.
absl::StatusOr<ModelConfig> ConfigFromHfJson(const nlohmann::json& root, const std::string& name);

}  // namespace lukv
