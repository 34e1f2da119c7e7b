// What the entries of a context turned out to be worth to an answer: step 2 of LU-KV's offline protocol (arXiv
// 2602.08585, section 4, and the authors' code).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"

namespace lukv {

// n[h][j] = |v_j W_O^(h)|: how much entry j can move the residual stream through query head h, [n_layers, n_heads,
// n_tokens], divided by the sum over all heads and entries of its layer (as the authors' code does; the paper has no
// such division). Every head of the slot holds n_tokens entries.
absl::StatusOr<std::vector<float>> ValueNorms(ModelRunner& runner, const WeightSource& weights, Slot slot,
                                              int32_t n_tokens);

// The largest weight * n over the steps of an answer and over the query heads of a kv head.
class OracleImportance {
 public:
  // norms: as ValueNorms gives them; must outlive this.
  OracleImportance(const ModelConfig& config, int32_t n_tokens, std::span<const float> norms);

  // One step of one layer. weights: [n_heads, n_tokens], each head's softmax over all that the step sees.
  void Observe(int32_t layer, std::span<const float> weights);
  // [n_layers, n_kv_heads, n_tokens]
  std::span<const float> values() const { return values_; }

 private:
  const size_t n_heads_;
  const size_t group_;  // Query heads per kv head.
  const size_t n_tokens_;
  const std::span<const float> norms_;
  std::vector<float> values_;
};

}  // namespace lukv
