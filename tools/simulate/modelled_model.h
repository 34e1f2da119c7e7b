// A model of a few hashes: weights without values worth having, and all that an engine needs to run on them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/evict/budget_curve.h"
#include "engine/model/model_config.h"
#include "engine/model/weight_source.h"

namespace lukv {

struct ModelledShape {
  int32_t n_layers = 2;
  int32_t n_heads = 2;
  int32_t n_kv_heads = 2;
  int32_t vocabulary = 64;
  int32_t context_length = 512;
};

// Every tensor is there, and differs from the others. A row of K or V has room for a hash in either KV dtype.
std::unique_ptr<WeightSource> MakeModelledWeights(const ModelledShape& shape);

// For the scorers' default settings and protection; heads and layers are pruned differently.
CurveSet MakeModelledCurves(const ModelConfig& config, const std::string& fingerprint);

}  // namespace lukv
