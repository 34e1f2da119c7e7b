#include "tests/conformance/oracle_evict.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace lukv::oracle {
namespace {

double Norm(std::span<const float> x) {
  double squares = 0;
  for (const float v : x) squares += double{v} * v;
  return std::sqrt(squares);
}

std::span<const float> Row(const std::vector<float>& rows, size_t i, size_t dim) {
  return std::span(rows).subspan(i * dim, dim);
}

// [dim, dim] whose column i is unit vector i turned.
Vector MeanRotation(size_t dim, int32_t first, int32_t n, std::span<const float> inverse_frequency, double magnitude,
                    RopeLayout layout) {
  Vector r(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    Vector unit(dim);
    unit[i] = 1;
    for (int32_t p = first; p < first + n; ++p) {
      const Vector turned = Rotate(unit, p, inverse_frequency, magnitude, layout);
      for (size_t j = 0; j < dim; ++j) r[j * dim + i] += turned[j] / n;
    }
  }
  return r;
}

// a b or a b^T for [dim, dim] matrices.
Vector Product(const Vector& a, const Vector& b, size_t dim, bool transpose_b) {
  Vector c(dim * dim);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      for (size_t k = 0; k < dim; ++k) c[i * dim + j] += a[i * dim + k] * b[transpose_b ? j * dim + k : k * dim + j];
    }
  }
  return c;
}

// An entry's worth: protected entries first, then by score, not a number last.
std::pair<int, double> Worth(std::span<const float> scores, size_t entry, int32_t sink, int32_t window) {
  if (entry < static_cast<size_t>(sink) || entry + static_cast<size_t>(window) >= scores.size()) return {2, 0};
  return std::isnan(scores[entry]) ? std::pair(0, 0.0) : std::pair(1, double{scores[entry]});
}

}  // namespace

Statistics Statistic(std::span<const Vector> queries) {
  const size_t dim = queries[0].size();
  const double n = static_cast<double>(queries.size());
  Statistics s = {Vector(dim), Vector(dim * dim)};
  for (const Vector& q : queries) {
    for (size_t i = 0; i < dim; ++i) s.mean[i] += q[i] / n;
  }
  for (const Vector& q : queries) {
    for (size_t i = 0; i < dim; ++i) {
      for (size_t j = 0; j < dim; ++j) s.covariance[i * dim + j] += (q[i] - s.mean[i]) * (q[j] - s.mean[j]) / n;
    }
  }
  return s;
}

Statistics Turned(const Statistics& statistics, int32_t first, int32_t n, std::span<const float> inverse_frequency,
                  double magnitude, RopeLayout layout) {
  const size_t dim = statistics.mean.size();
  const Vector r = MeanRotation(dim, first, n, inverse_frequency, magnitude, layout);
  Statistics turned = {Vector(dim), Product(r, Product(statistics.covariance, r, dim, true), dim, false)};
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < dim; ++j) turned.mean[i] += r[i * dim + j] * statistics.mean[j];
  }
  return turned;
}

Scored ScoreExpectedAttention(std::span<const HeadEntries> heads, std::span<const Statistics> queries, int32_t n_first,
                              double epsilon, double scale) {
  const size_t dim = static_cast<size_t>(heads[0].head_dim);
  const size_t n = static_cast<size_t>(heads[0].size());
  const size_t first = std::min(n, static_cast<size_t>(n_first));
  const size_t group = queries.size() / heads.size();
  Scored result;
  result.scores.resize(heads.size() * n);
  double greatest = 0;
  for (size_t h = 0; h < queries.size() && first < n; ++h) {
    const HeadEntries& head = heads[h / group];
    Vector logits;
    for (size_t e = first; e < n; ++e) {
      const std::span<const float> k = Row(head.k, e, dim);
      double logit = 0;
      double size = 0;
      for (size_t i = 0; i < dim; ++i) {
        const double linear = scale * k[i] * queries[h].mean[i];
        logit += linear;
        size += std::abs(linear);
        for (size_t j = 0; j < dim; ++j) {
          const double square = scale * scale / 2 * k[i] * queries[h].covariance[i * dim + j] * k[j];
          logit += square;
          size += std::abs(square);
        }
      }
      logits.push_back(logit);
      result.logit_size = std::max(result.logit_size, size);
    }
    const Vector weights = Softmax(std::move(logits));
    for (size_t e = first; e < n; ++e) {
      result.scores[h / group * n + e] += weights[e - first] / static_cast<double>(group);
    }
  }
  for (size_t h = 0; h < heads.size(); ++h) {
    for (size_t e = first; e < n; ++e) {
      double& score = result.scores[h * n + e];
      score = (score + epsilon) * Norm(Row(heads[h].v, e, dim));
      greatest = std::max(greatest, score);
    }
  }
  for (size_t h = 0; h < heads.size(); ++h) {
    std::fill_n(result.scores.begin() + static_cast<ptrdiff_t>(h * n), first, greatest + 1);
  }
  return result;
}

Scored ScoreSnapKv(std::span<const HeadEntries> heads, std::span<const float> window_q, int32_t n_heads, int32_t kernel,
                   Pooling pooling, double scale) {
  const size_t dim = static_cast<size_t>(heads[0].head_dim);
  const int32_t n = heads[0].size();
  const size_t row_size = static_cast<size_t>(n_heads) * dim;
  const int32_t window = static_cast<int32_t>(window_q.size() / row_size);
  const int32_t before = n - window;
  const size_t group = static_cast<size_t>(n_heads) / heads.size();
  Scored result;
  result.scores.resize(heads.size() * static_cast<size_t>(n));
  for (size_t h = 0; h < static_cast<size_t>(n_heads); ++h) {
    const HeadEntries& head = heads[h / group];
    Vector means(static_cast<size_t>(before));
    for (int32_t w = 0; w < window; ++w) {
      const std::span<const float> q = window_q.subspan(static_cast<size_t>(w) * row_size + h * dim, dim);
      const Vector weights = AttentionWeights(q, head, before + w + 1, scale);
      for (size_t e = 0; e < means.size(); ++e) means[e] += weights[e] / window;
      for (size_t e = 0; e < static_cast<size_t>(n); ++e) {
        double size = 0;
        for (size_t i = 0; i < dim; ++i) size += std::abs(scale * q[i] * head.k[e * dim + i]);
        result.logit_size = std::max(result.logit_size, size);
      }
    }
    for (int32_t e = 0; e < before; ++e) {
      double pooled = pooling == Pooling::kMax ? -std::numeric_limits<double>::infinity() : 0.0;
      for (int32_t i = e - kernel / 2; i <= e + kernel / 2; ++i) {
        if (i < 0 || i >= before) continue;
        const double mean = means[static_cast<size_t>(i)];
        pooled = pooling == Pooling::kMax ? std::max(pooled, mean) : pooled + mean / kernel;
      }
      result.scores[h / group * static_cast<size_t>(n) + static_cast<size_t>(e)] += pooled / static_cast<double>(group);
    }
  }
  const double greatest = *std::max_element(result.scores.begin(), result.scores.end());
  for (size_t h = 0; h < heads.size(); ++h) {
    std::fill_n(result.scores.begin() + static_cast<ptrdiff_t>(h * static_cast<size_t>(n)) + before, window,
                greatest + 1);
  }
  return result;
}

Vector ScoreKeyDiff(std::span<const HeadEntries> heads) {
  Vector scores;
  for (const HeadEntries& head : heads) {
    const size_t dim = static_cast<size_t>(head.head_dim);
    const size_t n = static_cast<size_t>(head.size());
    Vector anchor(dim);
    for (size_t e = 0; e < n; ++e) {
      const std::span<const float> k = Row(head.k, e, dim);
      for (size_t i = 0; i < dim; ++i) anchor[i] += k[i] / std::max(Norm(k), 1e-12) / static_cast<double>(n);
    }
    double length = 0;
    for (const double a : anchor) length += a * a;
    length = std::sqrt(length);
    for (size_t e = 0; e < n; ++e) {
      const std::span<const float> k = Row(head.k, e, dim);
      double dot = 0;
      for (size_t i = 0; i < dim; ++i) dot += k[i] * anchor[i];
      scores.push_back(dot == 0 ? 0 : -dot / (Norm(k) * length));
    }
  }
  return scores;
}

Vector ScoreKeyNorm(std::span<const HeadEntries> heads) {
  Vector scores;
  for (const HeadEntries& head : heads) {
    for (size_t e = 0; e < static_cast<size_t>(head.size()); ++e) {
      scores.push_back(-Norm(Row(head.k, e, static_cast<size_t>(head.head_dim))));
    }
  }
  return scores;
}

std::vector<int32_t> SelectTop(std::span<const float> scores, int32_t sink, int32_t window, int32_t k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return Worth(scores, static_cast<size_t>(a), sink, window) > Worth(scores, static_cast<size_t>(b), sink, window);
  });
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<int32_t> AdaptiveBudgets(std::span<const float> scores, int32_t n_kv_heads, int32_t sink, int32_t window,
                                     int32_t n_kept, int32_t n_safe) {
  const size_t n = scores.size() / static_cast<size_t>(n_kv_heads);
  struct Entry {
    std::pair<int, double> worth;
    size_t head;
  };
  std::vector<Entry> others;  // By head, then by entry.
  for (size_t h = 0; h < static_cast<size_t>(n_kv_heads); ++h) {
    const std::span<const float> row = scores.subspan(h * n, n);
    const std::vector<int32_t> safe = SelectTop(row, sink, window, n_safe);
    for (size_t e = 0; e < n; ++e) {
      if (std::binary_search(safe.begin(), safe.end(), static_cast<int32_t>(e))) continue;
      others.push_back({Worth(row, e, sink, window), h});
    }
  }
  std::stable_sort(others.begin(), others.end(), [](const Entry& a, const Entry& b) { return a.worth > b.worth; });
  std::vector<int32_t> budgets(static_cast<size_t>(n_kv_heads), n_safe);
  for (size_t i = 0; i < static_cast<size_t>(n_kv_heads) * static_cast<size_t>(n_kept - n_safe); ++i) {
    ++budgets[others[i].head];
  }
  return budgets;
}

}  // namespace lukv::oracle
