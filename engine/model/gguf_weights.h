// A model in a GGUF file: its config from the metadata, its tensors where they lie.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/gguf.h"
#include "engine/model/weight_source.h"

namespace lukv {

// Errors as OpenWeights. `name` is used when the file gives no general.name.
absl::StatusOr<std::unique_ptr<WeightSource>> WeightsFromGguf(std::unique_ptr<GgufFile> file, const std::string& name);

}  // namespace lukv
