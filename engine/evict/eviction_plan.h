// How many entries each head of each layer will keep of a context, decided from its length alone, before anything is
// computed. The exception is AdaKV: it fixes only each layer's total, and the heads share it out by their scores.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/budget_curve.h"
#include "engine/evict/policy.h"
#include "engine/kv/head_page_table.h"

namespace lukv {

// Immutable.
class EvictionPlan {
 public:
  // For a context of n_tokens >= 1. `entry_bytes`: K and V of one entry of one kv head. `curve` is needed by LU-KV
  // alone and must be of the shape of `geometry`. REQUIRES: a valid policy that is not full. INVALID_ARGUMENT: a byte
  // budget below one entry per head.
  static absl::StatusOr<EvictionPlan> Make(const Policy& policy, int32_t n_tokens, const KvGeometry& geometry,
                                           int64_t entry_bytes, const BudgetCurve* curve);

  const Policy& policy() const { return policy_; }
  int32_t n_tokens() const { return n_tokens_; }
  // The global ratio after a budget of tokens or bytes was turned into one.
  double ratio() const { return ratio_; }

  // False: budgets() is a mean, equal for the heads of a layer; each head is sure of n_safe().
  bool known_from_length() const { return policy_.allocator != Allocator::kAdaKv; }
  // [n_layers * n_kv_heads], each in [1, n_tokens].
  std::span<const int32_t> budgets() const { return budgets_; }
  std::span<const int32_t> layer_budgets(int32_t layer) const;
  int32_t n_safe() const { return n_safe_; }

  // Pages that the context's kept entries and `more` entries after them need: exact if known_from_length(), else a
  // bound that no outcome exceeds.
  uint32_t PagesFor(int32_t more) const;
  // Whether every head keeps every entry.
  bool keeps_all() const;

 private:
  EvictionPlan() = default;

  Policy policy_;
  KvGeometry geometry_;
  int32_t n_tokens_ = 0;
  double ratio_ = 0;
  std::vector<int32_t> budgets_;
  int32_t n_safe_ = 0;
};

// The name of the plan's policy; of no plan, where everything is kept, that of the policy "full".
std::string PlanPolicyName(const EvictionPlan* plan);

}  // namespace lukv
