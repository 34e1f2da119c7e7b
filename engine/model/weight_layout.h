// Which tensors a model of a given config consists of, under the names of WeightSource, and their shapes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "kernels/dtype.h"

namespace lukv {

struct TensorSpec {
  std::string name;
  int64_t rows = 0;  // 1 for vectors.
  int64_t cols = 0;
};

// REQUIRES: config.Validate().ok()
std::vector<TensorSpec> TensorsOf(const ModelConfig& config);

using TensorMap = std::map<std::string, TensorView, std::less<>>;

// Looks every tensor of the config up with `find` and checks its shape. The error of `find` is passed on;
// INVALID_ARGUMENT names a tensor of another shape, with both shapes.
absl::StatusOr<TensorMap> CollectTensors(const ModelConfig& config,
                                         absl::FunctionRef<absl::StatusOr<TensorView>(std::string_view name)> find);

// NOT_FOUND by name.
absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, std::string_view name);

}  // namespace lukv
