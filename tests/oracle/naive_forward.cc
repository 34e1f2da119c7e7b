#include "tests/oracle/naive_forward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "kernels/dtype.h"

namespace lukv {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;  // [n_tokens][features]

Row ReadRow(const TensorView& view, int64_t row) {
  std::vector<float> values(static_cast<size_t>(view.cols));
  Dequantize(view.dtype, view.data + static_cast<size_t>(row) * RowBytes(view.dtype, view.cols), view.cols,
             values.data());
  return Row(values.begin(), values.end());
}

double Dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// x / sqrt(mean(x^2) + epsilon) * weight, in place over [x, x + weight.size()).
void RmsNorm(double* x, const Row& weight, double epsilon) {
  const size_t n = weight.size();
  const double scale = 1 / std::sqrt(Dot(x, x, n) / static_cast<double>(n) + epsilon);
  for (size_t i = 0; i < n; ++i) x[i] *= scale * weight[i];
}

// exp(s) / sum of exp(s), taken relative to the largest so that nothing overflows.
Row Softmax(Row scores) {
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - most);
  for (double& score : scores) score /= sum;
  return scores;
}

class Model {
 public:
  Model(const WeightSource& source, const Visible& visible)
      : source_(source), config_(source.config()), inverse_frequency_(InverseFrequencies(config_)), visible_(visible) {}

  std::vector<double> Run(std::span<const int32_t> ids, std::vector<LayerTrace>* trace) const {
    const TensorView embedding = Tensor("token_embd.weight");
    Rows x;
    for (const int32_t id : ids) {
      LUKV_CHECK(id >= 0 && id < config_.vocabulary);
      x.push_back(ReadRow(embedding, id));
    }
    for (int32_t layer = 0; layer < config_.n_layers; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      LayerTrace layer_trace;
      Add(x, Attention(layer, prefix, Normed(x, prefix + "attn_norm.weight"), layer_trace));
      if (trace != nullptr) trace->push_back(std::move(layer_trace));
      Add(x, Mlp(prefix, Normed(x, prefix + "ffn_norm.weight")));
    }
    const std::string head = config_.tied_embeddings ? "token_embd" : "output";
    const Rows logits = Linear(Normed(x, "output_norm.weight"), head, /*bias=*/false);
    std::vector<double> flat;
    for (const Row& row : logits) flat.insert(flat.end(), row.begin(), row.end());
    return flat;
  }

 private:
  TensorView Tensor(std::string_view name) const {
    const auto view = source_.Tensor(name);
    LUKV_CHECK(view.ok());
    return *view;
  }

  static void Add(Rows& x, const Rows& y) {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    }
  }

  Rows Normed(Rows x, std::string_view weight_name) const {
    const Row weight = ReadRow(Tensor(weight_name), 0);
    for (Row& row : x) RmsNorm(row.data(), weight, config_.norm_epsilon);
    return x;
  }

  Rows Linear(const Rows& x, const std::string& name, bool bias) const {
    const TensorView weight = Tensor(name + ".weight");
    Rows out(x.size(), Row(static_cast<size_t>(weight.rows)));
    const Row offset = bias ? ReadRow(Tensor(name + ".bias"), 0) : Row(static_cast<size_t>(weight.rows), 0.0);
    for (int64_t r = 0; r < weight.rows; ++r) {
      const Row row = ReadRow(weight, r);
      for (size_t t = 0; t < x.size(); ++t) out[t][r] = Dot(x[t].data(), row.data(), row.size()) + offset[r];
    }
    return out;
  }

  // Rotates each head of each row by its position; the pairs lie as the config says.
  void Rope(Rows& x) const {
    const size_t dim = static_cast<size_t>(config_.head_dim);
    const bool split = config_.rope_layout == RopeLayout::kHalfSplit;
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t head = 0; head < x[t].size(); head += dim) {
        for (size_t i = 0; i < dim / 2; ++i) {
          double& a = x[t][head + (split ? i : 2 * i)];
          double& b = x[t][head + (split ? i + dim / 2 : 2 * i + 1)];
          const double angle = static_cast<double>(t) * inverse_frequency_[i];
          const double rotated = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = rotated;
        }
      }
    }
  }

  void HeadNorm(Rows& x, std::string_view weight_name) const {
    const Row weight = ReadRow(Tensor(weight_name), 0);
    for (Row& row : x) {
      for (size_t head = 0; head < row.size(); head += weight.size()) {
        RmsNorm(row.data() + head, weight, config_.norm_epsilon);
      }
    }
  }

  Rows Attention(int32_t layer, const std::string& prefix, const Rows& x, LayerTrace& trace) const {
    Rows q = Linear(x, prefix + "attn_q", config_.qkv_bias);
    Rows k = Linear(x, prefix + "attn_k", config_.qkv_bias);
    const Rows& v = trace.v = Linear(x, prefix + "attn_v", config_.qkv_bias);
    trace.weights.assign(x.size(), Rows(static_cast<size_t>(config_.n_heads), Row(x.size(), 0.0)));
    if (config_.qk_norm) {
      HeadNorm(q, prefix + "attn_q_norm.weight");
      HeadNorm(k, prefix + "attn_k_norm.weight");
    }
    Rope(q);
    Rope(k);
    const size_t dim = static_cast<size_t>(config_.head_dim);
    const size_t group = static_cast<size_t>(config_.n_heads / config_.n_kv_heads);
    const size_t window = config_.sliding_window > 0 ? static_cast<size_t>(config_.sliding_window) : x.size();
    Rows out(x.size(), Row(q[0].size(), 0.0));
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t first = i + 1 > window ? i + 1 - window : 0;
      for (size_t head = 0; head < static_cast<size_t>(config_.n_heads); ++head) {
        const size_t kv = head / group * dim;
        std::vector<size_t> seen;
        Row scores;
        for (size_t j = first; j <= i; ++j) {
          if (visible_ != nullptr && !visible_(layer, static_cast<int32_t>(head / group), i, j)) continue;
          seen.push_back(j);
          scores.push_back(Dot(&q[i][head * dim], &k[j][kv], dim) / std::sqrt(static_cast<double>(dim)));
        }
        const Row weights = Softmax(std::move(scores));
        for (size_t s = 0; s < seen.size(); ++s) {
          trace.weights[i][head][seen[s]] = weights[s];
          for (size_t d = 0; d < dim; ++d) out[i][head * dim + d] += weights[s] * v[seen[s]][kv + d];
        }
      }
    }
    return Linear(out, prefix + "attn_output", config_.output_bias);
  }

  Rows Mlp(const std::string& prefix, const Rows& x) const {
    Rows gate = Linear(x, prefix + "ffn_gate", config_.mlp_bias);
    const Rows up = Linear(x, prefix + "ffn_up", config_.mlp_bias);
    for (size_t t = 0; t < gate.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i) gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
    }
    return Linear(gate, prefix + "ffn_down", config_.mlp_bias);
  }

  const WeightSource& source_;
  const ModelConfig& config_;
  const std::vector<float> inverse_frequency_;
  const Visible& visible_;
};

}  // namespace

std::vector<double> NaiveForward(const WeightSource& source, std::span<const int32_t> ids, const Visible& visible,
                                 std::vector<LayerTrace>* trace) {
  return Model(source, visible).Run(ids, trace);
}

}  // namespace lukv
