#include "engine/evict/curve_solver.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>

#include "base/check.h"
#include "engine/evict/budget_curve.h"

namespace lukv {

std::vector<int32_t> RankEntries(std::span<const float> scores, int32_t sink, int32_t window) {
  LUKV_CHECK(sink >= 0 && window >= 0);
  const int64_t n = static_cast<int64_t>(scores.size());
  const int64_t first = std::min<int64_t>(sink, n);
  const int64_t last = std::max(first, n - window);
  std::vector<int32_t> ranked(static_cast<size_t>(last - first));
  std::iota(ranked.begin(), ranked.end(), static_cast<int32_t>(first));
  const auto worth = [&](int32_t entry) {
    const float score = scores[static_cast<size_t>(entry)];
    return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
  };
  std::stable_sort(ranked.begin(), ranked.end(), [&](int32_t a, int32_t b) { return worth(a) > worth(b); });
  return ranked;
}

void RelaxDecrements(std::span<double> decrements) {
  struct Block {
    double sum;
    size_t count;
    double mean() const { return sum / static_cast<double>(count); }
  };
  std::vector<Block> blocks;
  for (const double decrement : decrements) {
    blocks.push_back({decrement, 1});
    while (blocks.size() > 1 && blocks[blocks.size() - 2].mean() < blocks.back().mean()) {
      const Block top = blocks.back();
      blocks.pop_back();
      blocks.back().sum += top.sum;
      blocks.back().count += top.count;
    }
  }
  auto at = decrements.begin();
  for (const Block& block : blocks) {
    at = std::fill_n(at, block.count, block.mean());
  }
}

int32_t FloorOfHead(int32_t n_tokens, int32_t n_protected) {
  const auto share = static_cast<int32_t>(std::nearbyint(0.01 * n_tokens));
  return std::min(n_tokens, std::max({1, share, n_protected}));
}

int64_t EntriesToEvict(int32_t percent, int32_t n_heads, int32_t n_tokens) {
  // In integers: 0.57 * 100 is no 57.
  const int64_t hundredfold = int64_t{percent} * n_heads * n_tokens;
  const int64_t down = hundredfold / 100;
  const int64_t rest = hundredfold % 100;
  return rest > 50 || (rest == 50 && down % 2 == 1) ? down + 1 : down;
}

std::vector<int32_t> SolveBudgets(int32_t n_tokens, int32_t n_protected, int32_t n_heads,
                                  std::span<const double> relaxed) {
  LUKV_CHECK(n_tokens >= 1 && n_heads >= 1 && n_protected >= 0 && n_protected <= n_tokens);
  const auto n_ranked = static_cast<size_t>(n_tokens - n_protected);
  const auto heads = static_cast<size_t>(n_heads);
  LUKV_CHECK(relaxed.size() == heads * n_ranked);
  const int32_t floor = FloorOfHead(n_tokens, n_protected);

  std::vector<int32_t> kept(heads, n_tokens);
  using Next = std::pair<double, size_t>;  // Loss of evicting the head's worst entry that is left, head.
  std::priority_queue<Next, std::vector<Next>, std::greater<>> next;
  const auto push = [&](size_t head) {
    if (kept[head] == floor) return;
    next.emplace(relaxed[head * n_ranked + static_cast<size_t>(kept[head] - n_protected - 1)], head);
  };
  for (size_t head = 0; head < heads; ++head) push(head);

  std::vector<int32_t> result;
  result.reserve(BudgetCurve::kRatios * heads);
  int64_t evicted = 0;
  for (int32_t percent = 1; percent <= BudgetCurve::kRatios; ++percent) {
    const int64_t target = EntriesToEvict(percent, n_heads, n_tokens);
    for (; evicted < target && !next.empty(); ++evicted) {
      const size_t head = next.top().second;
      next.pop();
      --kept[head];
      push(head);
    }
    result.insert(result.end(), kept.begin(), kept.end());
  }
  return result;
}

}  // namespace lukv
