// What makes one model family different from another, as data. The forward reads nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/args.h"

namespace lukv {

// RoPE frequency scaling. kLinear divides positions by factor; kLlama3 is the piecewise rule of Llama 3.1
// (Hugging Face `rope_type: llama3`).
enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3 };

struct ModelConfig {
  std::string architecture;  // "llama", "mistral", "qwen2", "qwen3"
  std::string name;          // For people: general.name or the folder's name.

  int32_t n_layers = 0;
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t hidden = 0;
  int32_t ffn = 0;
  int32_t vocabulary = 0;
  int32_t context_length = 0;  // Tokens that the model was made for.

  float norm_epsilon = 1e-5f;
  float rope_base = 10000.0f;
  RopeLayout rope_layout = RopeLayout::kHalfSplit;
  RopeScaling rope_scaling = RopeScaling::kNone;
  float rope_factor = 1.0f;
  float rope_low_frequency_factor = 1.0f;   // kLlama3
  float rope_high_frequency_factor = 4.0f;  // kLlama3
  int32_t rope_original_context = 0;        // kLlama3
  // Per-frequency divisors given by a GGUF file itself (tensor rope_freqs.weight), [head_dim / 2] or empty.
  std::vector<float> rope_divisors;

  bool qkv_bias = false;
  bool output_bias = false;  // Bias on the attention's output projection.
  bool mlp_bias = false;
  bool qk_norm = false;  // RMS norm per head on q and k before RoPE (Qwen3).
  bool tied_embeddings = false;
  int32_t sliding_window = 0;  // 0: none. Tokens.

  // Columns of the query projection, and of the fused q, k and v.
  int64_t q_features() const { return int64_t{head_dim} * n_heads; }
  int64_t qkv_features() const { return int64_t{head_dim} * (n_heads + 2 * n_kv_heads); }

  // INVALID_ARGUMENT with the first field that makes no sense (zero, negative, not divisible, absurdly large).
  absl::Status Validate() const;
};

// [head_dim / 2] inverse frequencies with the config's scaling applied.
std::vector<float> InverseFrequencies(const ModelConfig& config);

}  // namespace lukv
