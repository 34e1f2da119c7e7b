// Weights that mean nothing, of a given model's shape.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/model/weight_source.h"

namespace lukv {

enum class DummyValues : uint8_t {
  kRandom,
  kZero,  // Costs neither time nor memory: for devices that compute nothing.
};

// bf16 tensors, all of them views of one and the same buffer: the host needs the memory of the largest one only. Random
// values are so small that activations stay finite. RESOURCE_EXHAUSTED: there is not so much memory.
absl::StatusOr<std::unique_ptr<WeightSource>> DummyWeights(const ModelConfig& config, DummyValues values);

// `n` random bf16 values like theirs.
void FillDummy(uint16_t* to, int64_t n);

}  // namespace lukv
