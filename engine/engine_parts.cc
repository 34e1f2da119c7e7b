#include "engine/engine_parts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/model/fingerprint.h"

namespace lukv {
namespace {

// The context that will be served, or why that is impossible.
absl::StatusOr<int32_t> ServedContext(const ModelConfig& config, const EngineOptions& options) {
  const int32_t context = options.max_context > 0 ? options.max_context : config.context_length;
  if (context > config.context_length) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a context of ", context, " tokens was asked for, the model was made for ", config.context_length));
  }
  if (config.sliding_window > 0 && context > config.sliding_window) {
    return absl::UnimplementedError(absl::StrCat(
        "the model attends over a sliding window of ", config.sliding_window, " tokens, shorter than the context of ",
        context, "; lukv serves it up to the window: set the maximum context to ", config.sliding_window, " or less"));
  }
  return context;
}

}  // namespace

absl::StatusOr<EngineParts> MakeEngineParts(const std::string& model_path, std::unique_ptr<Backend> backend,
                                            const EngineOptions& options) {
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<WeightSource> weights, OpenWeights(model_path));
  return MakeEngineParts(std::move(weights), std::move(backend), options);
}

absl::StatusOr<EngineParts> MakeEngineParts(std::unique_ptr<WeightSource> weights, std::unique_ptr<Backend> backend,
                                            const EngineOptions& options) {
  LUKV_RETURN_IF_ERROR(options.Validate());
  EngineParts parts;
  parts.weights = std::move(weights);
  parts.backend = std::move(backend);
  const ModelConfig& config = parts.weights->config();
  LUKV_ASSIGN_OR_RETURN(const int32_t context, ServedContext(config, options));

  LUKV_ASSIGN_OR_RETURN(parts.fingerprint, ModelFingerprint(*parts.weights));
  LUKV_ASSIGN_OR_RETURN(parts.curves, CurveSet::Load(options.curves, options.curves_root, config, parts.fingerprint));
  RunnerOptions runner{.kv_dtype = options.kv_dtype,
                       .page_tokens = options.page_tokens,
                       .n_slots = options.max_sequences,
                       .max_context = context,
                       .prefill_chunk = options.prefill_chunk};
  MemoryRequest memory{.activations = parts.backend->activation_dtype(),
                       .utilization = options.memory_utilization,
                       .kv_memory_bytes = options.kv_memory_bytes};
  LUKV_ASSIGN_OR_RETURN(memory.before, parts.backend->Memory());
  absl::StatusOr<Model> model = Model::Load(*parts.weights, *parts.backend);
  if (absl::IsResourceExhausted(model.status())) {
    return absl::ResourceExhaustedError(absl::StrCat("the weights do not fit: ", memory.before.free_bytes >> 20,
                                                     " MiB were free; ", std::string(model.status().message())));
  }
  LUKV_RETURN_IF_ERROR(model.status());
  memory.weight_bytes = model->weight_bytes;
  memory.workspace_bytes = static_cast<int64_t>(parts.backend->WorkspaceBytes({.n_heads = config.n_heads,
                                                                               .n_kv_heads = config.n_kv_heads,
                                                                               .head_dim = config.head_dim,
                                                                               .context = context,
                                                                               .sampled_rows = options.max_sequences,
                                                                               .vocabulary = config.vocabulary}));
  LUKV_ASSIGN_OR_RETURN(parts.memory, PlanMemory(memory, config, runner));
  runner.n_pages = static_cast<uint32_t>(parts.memory.n_pages);
  parts.model = std::make_unique<Model>(*std::move(model));
  LUKV_ASSIGN_OR_RETURN(parts.runner, ModelRunner::Create(*parts.model, *parts.backend, runner));
  return parts;
}

}  // namespace lukv
