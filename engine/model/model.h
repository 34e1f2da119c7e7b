// A model's weights on a device, named as the forward uses them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_source.h"
#include "kernels/backend.h"

namespace lukv {

// One transformer layer. Buffers that the architecture does not have are empty (data() == nullptr).
struct LayerWeights {
  DeviceBuffer attention_norm;            // [hidden]
  std::unique_ptr<LinearWeight> qkv;      // [(n_heads + 2 * n_kv_heads) * head_dim, hidden]
  DeviceBuffer qkv_bias;                  // [(n_heads + 2 * n_kv_heads) * head_dim]
  DeviceBuffer q_norm;                    // [head_dim]
  DeviceBuffer k_norm;                    // [head_dim]
  std::unique_ptr<LinearWeight> output;   // [hidden, n_heads * head_dim]
  DeviceBuffer output_bias;               // [hidden]
  DeviceBuffer mlp_norm;                  // [hidden]
  std::unique_ptr<LinearWeight> gate_up;  // [2 * ffn, hidden]
  DeviceBuffer gate_up_bias;              // [2 * ffn]
  std::unique_ptr<LinearWeight> down;     // [hidden, ffn]
  DeviceBuffer down_bias;                 // [hidden]
};

// Immutable after Load. Must not outlive the backend, nor the source (embedding rows are read from the mapped file).
struct Model {
  static absl::StatusOr<Model> Load(const WeightSource& source, Backend& backend);

  ModelConfig config;
  std::unique_ptr<EmbeddingWeight> embedding;  // [vocabulary, hidden]
  std::vector<LayerWeights> layers;
  DeviceBuffer final_norm;               // [hidden]
  std::unique_ptr<LinearWeight> logits;  // [vocabulary, hidden]; the embedding again when tied.
  DeviceBuffer inverse_frequency;        // [head_dim / 2]
  int64_t weight_bytes = 0;              // On the device, in its packed form.
};

}  // namespace lukv
