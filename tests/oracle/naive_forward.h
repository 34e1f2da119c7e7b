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

// Logits of every position, [n_tokens, vocabulary]. A sliding window is applied: position i sees (i - window, i].
// REQUIRES: ids are in the vocabulary; `source` was made by OpenWeights (all tensors are there).
std::vector<double> NaiveForward(const WeightSource& source, std::span<const int32_t> ids,
                                 const Visible& visible = nullptr);

}  // namespace lukv
