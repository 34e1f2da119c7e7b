// Everything that an engine runs on.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/evict/budget_curve.h"
#include "engine/memory_plan.h"
#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "kernels/backend.h"

namespace lukv {

// In the order in which it may be destroyed from the end.
struct EngineParts {
  std::unique_ptr<WeightSource> weights;  // Embedding rows are read from its mapping.
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<ModelRunner> runner;
  std::string fingerprint;
  CurveSet curves;
  MemoryPlan memory;
};

// Loads the weights into the backend and allocates the pages.
absl::StatusOr<EngineParts> MakeEngineParts(const std::string& model_path, std::unique_ptr<Backend> backend,
                                            const EngineOptions& options);
// The same for weights that are open already.
absl::StatusOr<EngineParts> MakeEngineParts(std::unique_ptr<WeightSource> weights, std::unique_ptr<Backend> backend,
                                            const EngineOptions& options);

}  // namespace lukv
