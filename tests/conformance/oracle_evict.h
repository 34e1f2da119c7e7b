// What the ops of eviction ought to compute: naive, in double. Scores are [n_kv_heads, n_tokens].
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/evict_args.h"
#include "tests/conformance/oracle.h"

namespace lukv::oracle {

// Mean and covariance (divided by the count) of one head's queries.
struct Statistics {
  Vector mean;        // [head_dim]
  Vector covariance;  // [head_dim, head_dim]
};
Statistics Statistic(std::span<const Vector> queries);

// Both turned by the mean of the rotations of n positions from `first` on.
Statistics Turned(const Statistics& statistics, int32_t first, int32_t n, std::span<const float> inverse_frequency,
                  double magnitude, RopeLayout layout);

struct Scored {
  Vector scores;
  // Greatest sum of the absolute values that make up a logit: rounding errors of logits go with it.
  double logit_size = 0;
};

// queries: turned, of each query head.
Scored ScoreExpectedAttention(std::span<const HeadEntries> heads, std::span<const Statistics> queries, int32_t n_first,
                              double epsilon, double scale);

// window_q: [window, n_heads * head_dim]
Scored ScoreSnapKv(std::span<const HeadEntries> heads, std::span<const float> window_q, int32_t n_heads, int32_t kernel,
                   Pooling pooling, double scale);

Vector ScoreKeyDiff(std::span<const HeadEntries> heads);
Vector ScoreKeyNorm(std::span<const HeadEntries> heads);

// The k best entries of one head, ascending.
std::vector<int32_t> SelectTop(std::span<const float> scores, int32_t sink, int32_t window, int32_t k);

std::vector<int32_t> AdaptiveBudgets(std::span<const float> scores, int32_t n_kv_heads, int32_t sink, int32_t window,
                                     int32_t n_kept, int32_t n_safe);

}  // namespace lukv::oracle
