// The transformer of engine/model/model_config.h as the papers write it, in double: no cache, no pages, no chunks, one
// loop after another. Weights are exact (f32 values of Dequantize), arithmetic is double throughout.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/model/weight_source.h"

namespace lukv {

// Whether a query at position `query` sees the entry of position `key` <= query; null: it does.
using Visible = std::function<bool(int32_t layer, int32_t kv_head, size_t query, size_t key)>;

// What attention did in one layer.
struct LayerTrace {
  std::vector<std::vector<double>> v;                     // [n_tokens][n_kv_heads * head_dim]
  std::vector<std::vector<std::vector<double>>> weights;  // [n_tokens][n_heads][n_tokens], 0 for what is not seen.
};

// Logits of every position, [n_tokens, vocabulary]. A sliding window is applied: position i sees (i - window, i].
// REQUIRES: ids are in the vocabulary; `source` was made by OpenWeights (all tensors are there).
// trace: becomes [n_layers] if given.
std::vector<double> NaiveForward(const WeightSource& source, std::span<const int32_t> ids,
                                 const Visible& visible = nullptr, std::vector<LayerTrace>* trace = nullptr);

}  // namespace lukv
