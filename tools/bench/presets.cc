#include "tools/bench/presets.h"

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "engine/model/weight_layout.h"

namespace lukv {
namespace {

// From the models' config.json on huggingface.co: meta-llama/Llama-3.1-8B, meta-llama/Llama-3.2-1B, Qwen/Qwen2.5-7B,
// HuggingFaceTB/SmolLM2-135M.
ModelConfig Llama(const char* name, float rope_factor) {
  return {.architecture = "llama",
          .name = name,
          .n_heads = 32,
          .n_kv_heads = 8,
          .vocabulary = 128256,
          .context_length = 131072,
          .rope_base = 500000,
          .rope_scaling = RopeScaling::kLlama3,
          .rope_factor = rope_factor,
          .rope_original_context = 8192};
}

ModelConfig Llama8b() {
  ModelConfig config = Llama("llama-3.1-8b", 8);
  config.n_layers = 32;
  config.head_dim = 128;
  config.hidden = 4096;
  config.ffn = 14336;
  return config;
}

ModelConfig Llama1b() {
  ModelConfig config = Llama("llama-3.2-1b", 32);
  config.n_layers = 16;
  config.head_dim = 64;
  config.hidden = 2048;
  config.ffn = 8192;
  config.tied_embeddings = true;
  return config;
}

ModelConfig Qwen7b() {
  return {.architecture = "qwen2",
          .name = "qwen2.5-7b",
          .n_layers = 28,
          .n_heads = 28,
          .n_kv_heads = 4,
          .head_dim = 128,
          .hidden = 3584,
          .ffn = 18944,
          .vocabulary = 152064,
          .context_length = 131072,
          .norm_epsilon = 1e-6f,
          .rope_base = 1000000,
          .qkv_bias = true};
}

ModelConfig SmolLm() {
  return {.architecture = "llama",
          .name = "smollm2-135m",
          .n_layers = 30,
          .n_heads = 9,
          .n_kv_heads = 3,
          .head_dim = 64,
          .hidden = 576,
          .ffn = 1536,
          .vocabulary = 49152,
          .context_length = 8192,
          .rope_base = 100000,
          .tied_embeddings = true};
}

// For tests, on emulated devices too.
ModelConfig Tiny() {
  return {.architecture = "llama",
          .name = "tiny",
          .n_layers = 2,
          .n_heads = 4,
          .n_kv_heads = 2,
          .head_dim = 64,
          .hidden = 128,
          .ffn = 192,
          .vocabulary = 256,
          .context_length = 4096};
}

const std::array<ModelConfig, 5>& Presets() {
  static const auto* const presets = new std::array<ModelConfig, 5>{Llama8b(), Llama1b(), Qwen7b(), SmolLm(), Tiny()};
  return *presets;
}

}  // namespace

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const ModelConfig& config : Presets()) names.push_back(config.name);
  return names;
}

absl::StatusOr<ModelConfig> PresetConfig(const std::string& name) {
  for (const ModelConfig& config : Presets()) {
    if (config.name == name) return config;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("there is no preset \"", name, "\": ", absl::StrJoin(PresetNames(), ", "), " are known"));
}

int64_t ParameterCount(const ModelConfig& config) {
  int64_t count = 0;
  const absl::Status counted = ForEachTensor(config, [&](const std::string&, int64_t rows, int64_t cols) {
    count += rows * cols;
    return absl::OkStatus();
  });
  LUKV_CHECK(counted.ok());
  return count;
}

}  // namespace lukv
