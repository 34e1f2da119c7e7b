// Which tensors a model of a given config consists of, under the names of WeightSource, and of which shapes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "kernels/dtype.h"

namespace lukv {

// Calls `add` for every tensor of the config, in the order of the forward; ends at its first error.
// REQUIRES: config.Validate().ok()
absl::Status ForEachTensor(const ModelConfig& config,
                           absl::FunctionRef<absl::Status(const std::string& name, int64_t rows, int64_t cols)> add);

using TensorMap = std::map<std::string, TensorView, std::less<>>;

// Looks every tensor of the config up with `find` and checks its shape. INVALID_ARGUMENT names the first tensor that is
// missing (NOT_FOUND from `find`) or of another shape; other errors of `find` are passed on.
// REQUIRES: config.Validate().ok()
absl::StatusOr<TensorMap> CollectTensors(const ModelConfig& config,
                                         absl::FunctionRef<absl::StatusOr<TensorView>(std::string_view name)> find);

// NOT_FOUND by name.
absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, std::string_view name);

}  // namespace lukv
