// What the backend's ops ought to compute: naive, in double, on plain unpaged arrays. Knows nothing of backends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/args.h"

namespace lukv::oracle {

using Vector = std::vector<double>;

// x / sqrt(mean(x^2) + epsilon) * weight
Vector RmsNorm(std::span<const float> x, std::span<const float> weight, double epsilon);

double Silu(double x);

// One head rotated by its position: pair i turns by position * inverse_frequency[i].
Vector Rotate(const Vector& head, int32_t position, std::span<const float> inverse_frequency, double magnitude,
              RopeLayout layout);

// Entries of one kv head: K and V rows, as the cache holds them.
struct HeadEntries {
  int32_t head_dim = 0;
  std::vector<float> k;  // [n, head_dim]
  std::vector<float> v;  // [n, head_dim]

  int32_t size() const { return static_cast<int32_t>(k.size()) / head_dim; }
};

Vector Softmax(Vector logits);

// softmax(q K^T * scale) over the first `visible` entries.
Vector AttentionWeights(std::span<const float> q, const HeadEntries& entries, int32_t visible, double scale);

// softmax(q K^T * scale) V over the first `visible` entries.
Vector Attend(std::span<const float> q, const HeadEntries& entries, int32_t visible, double scale);

}  // namespace lukv::oracle
