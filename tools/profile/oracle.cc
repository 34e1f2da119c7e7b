#include "tools/profile/oracle.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

// W^T W of the columns of the output projection that belong to each query head, [n_heads, head_dim, head_dim]: |v W| is
// then sqrt(v' W'W v), which costs head_dim^2 per entry, not head_dim * hidden.
absl::StatusOr<std::vector<float>> GramMatrices(const WeightSource& source, int32_t layer) {
  const ModelConfig& config = source.config();
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t heads = static_cast<size_t>(config.n_heads);
  LUKV_ASSIGN_OR_RETURN(const TensorView output, source.Tensor(absl::StrCat("blk.", layer, ".attn_output.weight")));
  LUKV_CHECK(static_cast<size_t>(output.cols) == heads * dim);
  std::vector<double> gram(heads * dim * dim, 0.0);
  std::vector<float> row(heads * dim);
  for (int64_t r = 0; r < output.rows; ++r) {
    Dequantize(output.dtype, output.data + static_cast<size_t>(r) * RowBytes(output.dtype, output.cols), output.cols,
               row.data());
    for (size_t h = 0; h < heads; ++h) {
      const float* const w = &row[h * dim];
      for (size_t i = 0; i < dim; ++i) {
        const double wi = w[i];
        double* const g = &gram[(h * dim + i) * dim];
        for (size_t j = 0; j < dim; ++j) g[j] += wi * w[j];
      }
    }
  }
  return std::vector<float>(gram.begin(), gram.end());
}

// sqrt(v' G v) for rows of v, [n, dim].
void Norms(const float* gram, const float* v, size_t n, size_t dim, float* norms) {
  std::vector<float> gv(dim);
  for (size_t t = 0; t < n; ++t) {
    const float* const vt = v + t * dim;
    std::fill(gv.begin(), gv.end(), 0.0f);
    for (size_t i = 0; i < dim; ++i) {
      const float* const g = gram + i * dim;
      for (size_t j = 0; j < dim; ++j) gv[j] += vt[i] * g[j];
    }
    double square = 0;
    for (size_t i = 0; i < dim; ++i) square += static_cast<double>(vt[i]) * gv[i];
    norms[t] = static_cast<float>(std::sqrt(std::max(square, 0.0)));
  }
}

}  // namespace

absl::StatusOr<std::vector<float>> ValueNorms(ModelRunner& runner, const WeightSource& weights, Slot slot,
                                              int32_t n_tokens) {
  const ModelConfig& config = weights.config();
  const size_t dim = static_cast<size_t>(config.head_dim);
  const size_t heads = static_cast<size_t>(config.n_heads);
  const size_t group = heads / static_cast<size_t>(config.n_kv_heads);
  const size_t tokens = static_cast<size_t>(n_tokens);
  std::vector<float> norms(static_cast<size_t>(config.n_layers) * heads * tokens);
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    LUKV_ASSIGN_OR_RETURN(const std::vector<float> gram, GramMatrices(weights, layer));
    const std::span<float> of_layer(&norms[static_cast<size_t>(layer) * heads * tokens], heads * tokens);
    for (int32_t kv_head = 0; kv_head < config.n_kv_heads; ++kv_head) {
      LUKV_ASSIGN_OR_RETURN(const ModelRunner::HeadEntries entries, runner.ReadEntries(slot, layer, kv_head));
      LUKV_CHECK(entries.v.size() == tokens * dim);
      for (size_t h = static_cast<size_t>(kv_head) * group; h < static_cast<size_t>(kv_head + 1) * group; ++h) {
        Norms(&gram[h * dim * dim], entries.v.data(), tokens, dim, &of_layer[h * tokens]);
      }
    }
    double sum = 0;
    for (const float norm : of_layer) sum += norm;
    if (sum > 0) {
      for (float& norm : of_layer) norm = static_cast<float>(norm / sum);
    }
  }
  return norms;
}

OracleImportance::OracleImportance(const ModelConfig& config, int32_t n_tokens, std::span<const float> norms)
    : n_heads_(static_cast<size_t>(config.n_heads)),
      group_(static_cast<size_t>(config.n_heads / config.n_kv_heads)),
      n_tokens_(static_cast<size_t>(n_tokens)),
      norms_(norms),
      values_(static_cast<size_t>(config.n_layers) * (n_heads_ / group_) * n_tokens_, 0.0f) {
  LUKV_CHECK(norms.size() == values_.size() * group_);
}

void OracleImportance::Observe(int32_t layer, std::span<const float> weights) {
  LUKV_CHECK(weights.size() == n_heads_ * n_tokens_);
  const float* const norms = &norms_[static_cast<size_t>(layer) * n_heads_ * n_tokens_];
  float* const values = &values_[static_cast<size_t>(layer) * (n_heads_ / group_) * n_tokens_];
  for (size_t h = 0; h < n_heads_; ++h) {
    const float* const w = &weights[h * n_tokens_];
    const float* const n = norms + h * n_tokens_;
    float* const v = values + h / group_ * n_tokens_;
    for (size_t t = 0; t < n_tokens_; ++t) v[t] = std::max(v[t], w[t] * n[t]);
  }
}

}  // namespace lukv
