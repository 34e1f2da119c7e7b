#include "engine/evict/eviction_plan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

// One layer's part of [n_layers * n_kv_heads].
template <typename T>
std::span<T> OfLayer(std::span<T> all, int32_t layer, const KvGeometry& geometry) {
  const size_t heads = static_cast<size_t>(geometry.n_kv_heads);
  return all.subspan(static_cast<size_t>(layer) * heads, heads);
}

// What a policy's budget comes to for a context: the part that goes, and the mean that stays in each head.
struct Target {
  double ratio = 0;
  double kept = 0;  // n_tokens * (1 - ratio), which is whole for a budget of tokens or bytes.
};

absl::StatusOr<Target> TargetOf(const Policy& policy, int32_t n_tokens, const KvGeometry& geometry,
                                int64_t entry_bytes) {
  if (policy.budget_kind == BudgetKind::kRatio) {
    return Target{.ratio = policy.ratio, .kept = n_tokens * (1 - policy.ratio)};
  }
  int64_t kept = policy.amount;
  if (policy.budget_kind == BudgetKind::kBytes) {
    const int64_t bytes_per_token = entry_bytes * geometry.heads();
    kept = policy.amount / bytes_per_token;
    if (kept < 1) {
      return absl::InvalidArgumentError(absl::StrCat("policy: the budget is ", policy.amount,
                                                     " bytes; one entry in each of ", geometry.heads(),
                                                     " kv heads takes ", bytes_per_token));
    }
  }
  kept = std::min<int64_t>(kept, n_tokens);
  return Target{.ratio = 1 - static_cast<double>(kept) / n_tokens, .kept = static_cast<double>(kept)};
}

int32_t UniformBudget(const Target& target) { return std::max(1, static_cast<int32_t>(target.kept)); }

// The published formula (KVCache-Factory's PyramidKV, as kvpress has it): widths fall linearly from the first layer's
// to the last's, whose mean is the global one. `window` is that of the scorer's own observation.
int32_t PyramidBudget(const Target& target, int32_t n_tokens, int32_t window, int32_t beta, int32_t layer,
                      int32_t n_layers) {
  double low = target.kept / beta;
  double high = target.kept * 2 - low;
  if (high >= n_tokens - window) {
    high = n_tokens - window;
    low = target.kept * 2 - high;
  }
  if (!(n_tokens >= high && high >= low && low >= window)) {
    return std::max(1, static_cast<int32_t>(std::nearbyint(target.kept)));
  }
  const double step = n_layers > 1 ? (high - low) / (n_layers - 1) : 0;
  return std::max(1, static_cast<int32_t>(std::nearbyint(high - layer * step)));
}

// Largest remainders: the layer's total is the rounded sum of what its heads would ideally keep. In f32 as the
// published code does it, so that the same curve gives the same budgets.
void LuKvBudgets(std::span<const float> prune_ratios, int32_t n_tokens, std::span<int32_t> budgets) {
  const size_t n = budgets.size();
  std::vector<float> ideal(n);
  for (size_t h = 0; h < n; ++h) {
    ideal[h] = std::clamp(1.0f - prune_ratios[h], 0.0f, 1.0f) * static_cast<float>(n_tokens);
    budgets[h] = static_cast<int32_t>(std::floor(ideal[h]));
  }
  const float sum = std::accumulate(ideal.begin(), ideal.end(), 0.0f);
  const int64_t heads = static_cast<int64_t>(n);
  const int64_t total = std::clamp<int64_t>(std::llrint(sum), heads, heads * n_tokens);
  const int64_t left = total - std::accumulate(budgets.begin(), budgets.end(), int64_t{0});
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return ideal[a] - static_cast<float>(budgets[a]) > ideal[b] - static_cast<float>(budgets[b]);
  });
  for (size_t i = 0; i < n && static_cast<int64_t>(i) < left; ++i) ++budgets[order[i]];
  for (int32_t& budget : budgets) budget = std::clamp(budget, 1, n_tokens);
}

// Curves have whole percents. A ratio is rounded as published; a budget of tokens or bytes is a limit, so it is rounded
// to the side that keeps less.
absl::StatusOr<double> CurveRatio(const Policy& policy, double ratio) {
  if (policy.budget_kind == BudgetKind::kRatio) return ratio;
  constexpr double kRoundingError = 1e-9;
  const double percent = std::ceil(100 * ratio - kRoundingError);
  if (percent > BudgetCurve::kRatios) {
    return absl::InvalidArgumentError(
        absl::StrCat("policy: the budget leaves ", 100 * (1 - ratio), " % of the context; curves end at 1 %"));
  }
  return percent / 100;
}

}  // namespace

absl::StatusOr<EvictionPlan> EvictionPlan::Make(const Policy& policy, int32_t n_tokens, const KvGeometry& geometry,
                                                int64_t entry_bytes, const BudgetCurve* curve) {
  LUKV_CHECK(!policy.full && n_tokens >= 1);
  LUKV_ASSIGN_OR_RETURN(const Target target, TargetOf(policy, n_tokens, geometry, entry_bytes));
  EvictionPlan plan;
  plan.policy_ = policy;
  plan.geometry_ = geometry;
  plan.n_tokens_ = n_tokens;
  plan.ratio_ = target.ratio;
  plan.budgets_.assign(static_cast<size_t>(geometry.heads()), n_tokens);
  const int32_t floor = policy.floors ? std::min(n_tokens, policy.sink + policy.window) : 1;
  if (policy.allocator == Allocator::kLuKv) {
    LUKV_CHECK(curve != nullptr && curve->n_layers() == geometry.n_layers &&
               curve->n_kv_heads() == geometry.n_kv_heads);
    LUKV_ASSIGN_OR_RETURN(plan.ratio_, CurveRatio(policy, target.ratio));
  }
  if (target.ratio <= 0) return plan;
  for (int32_t layer = 0; layer < geometry.n_layers; ++layer) {
    const std::span<int32_t> budgets = OfLayer(std::span<int32_t>(plan.budgets_), layer, geometry);
    switch (policy.allocator) {
      case Allocator::kUniform:
      case Allocator::kAdaKv:
        std::fill(budgets.begin(), budgets.end(), UniformBudget(target));
        break;
      case Allocator::kPyramidKv: {
        const int32_t window = policy.scorer.scorer == Scorer::kSnapKv ? policy.scorer.queries : policy.window;
        std::fill(budgets.begin(), budgets.end(),
                  PyramidBudget(target, n_tokens, window, policy.beta, layer, geometry.n_layers));
        break;
      }
      case Allocator::kLuKv:
        LuKvBudgets(curve->Layer(plan.ratio_, layer), n_tokens, budgets);
        break;
    }
    for (int32_t& budget : budgets) budget = std::max(budget, floor);
  }
  if (policy.allocator == Allocator::kAdaKv) {
    const int32_t kept = plan.budgets_.front();
    plan.n_safe_ = static_cast<int32_t>(kept * static_cast<double>(policy.alpha));
    if (policy.alpha > 0) plan.n_safe_ = std::max(1, plan.n_safe_);
    if (policy.floors) plan.n_safe_ = std::max(plan.n_safe_, floor);
  }
  return plan;
}

std::span<const int32_t> EvictionPlan::layer_budgets(int32_t layer) const {
  return OfLayer(budgets(), layer, geometry_);
}

uint32_t EvictionPlan::PagesFor(int32_t more) const {
  uint32_t pages = 0;
  if (known_from_length()) {
    for (const int32_t budget : budgets_) pages += geometry_.PagesFor(budget + more);
    return pages;
  }
  // Heads share out their layer's total: the sum of ceil(n / P) over them is largest when each wastes all it can, at
  // floor((total - heads) / P) + heads; and no head can hold more than the context.
  const int64_t heads = geometry_.n_kv_heads;
  for (int32_t layer = 0; layer < geometry_.n_layers; ++layer) {
    int64_t total = heads * more;
    for (const int32_t budget : layer_budgets(layer)) total += budget;
    const int64_t bound = (total - heads) / geometry_.page_tokens + heads;
    pages += static_cast<uint32_t>(std::min(bound, heads * geometry_.PagesFor(n_tokens_ + more)));
  }
  return pages;
}

std::string PlanPolicyName(const EvictionPlan* plan) { return PolicyName(plan == nullptr ? Policy() : plan->policy()); }

bool EvictionPlan::keeps_all() const {
  return std::all_of(budgets_.begin(), budgets_.end(), [this](int32_t budget) { return budget == n_tokens_; });
}

}  // namespace lukv
