// A model in a Hugging Face folder: config.json and model.safetensors, or shards with model.safetensors.index.json.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/weight_source.h"

namespace lukv {

// Errors as OpenWeights.
absl::StatusOr<std::unique_ptr<WeightSource>> WeightsFromHfFolder(const std::string& path);

}  // namespace lukv
