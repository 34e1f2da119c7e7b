#include "tests/conformance/oracle.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lukv::oracle {

Vector RmsNorm(std::span<const float> x, std::span<const float> weight, double epsilon) {
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  const double rms = std::sqrt(squares / static_cast<double>(x.size()) + epsilon);
  Vector out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] / rms * weight[i];
  return out;
}

double Silu(double x) { return x / (1 + std::exp(-x)); }

Vector Rotate(const Vector& head, int32_t position, std::span<const float> inverse_frequency, double magnitude,
              RopeLayout layout) {
  const size_t half = head.size() / 2;
  Vector out(head.size());
  for (size_t i = 0; i < half; ++i) {
    const size_t first = layout == RopeLayout::kHalfSplit ? i : 2 * i;
    const size_t second = layout == RopeLayout::kHalfSplit ? i + half : 2 * i + 1;
    const double angle = static_cast<double>(position) * double{inverse_frequency[i]};
    out[first] = magnitude * (head[first] * std::cos(angle) - head[second] * std::sin(angle));
    out[second] = magnitude * (head[first] * std::sin(angle) + head[second] * std::cos(angle));
  }
  return out;
}

Vector Softmax(Vector logits) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& x : logits) sum += x = std::exp(x - highest);
  for (double& x : logits) x /= sum;
  return logits;
}

Vector AttentionWeights(std::span<const float> q, const HeadEntries& entries, int32_t visible, double scale) {
  const size_t dim = static_cast<size_t>(entries.head_dim);
  Vector weights(static_cast<size_t>(visible));
  for (size_t e = 0; e < weights.size(); ++e) {
    double dot = 0;
    for (size_t d = 0; d < dim; ++d) dot += double{q[d]} * entries.k[e * dim + d];
    weights[e] = dot * scale;
  }
  return Softmax(std::move(weights));
}

Vector Attend(std::span<const float> q, const HeadEntries& entries, int32_t visible, double scale) {
  const size_t dim = static_cast<size_t>(entries.head_dim);
  const Vector weights = AttentionWeights(q, entries, visible, scale);
  Vector out(dim);
  for (size_t e = 0; e < weights.size(); ++e) {
    for (size_t d = 0; d < dim; ++d) out[d] += weights[e] * entries.v[e * dim + d];
  }
  return out;
}

}  // namespace lukv::oracle
