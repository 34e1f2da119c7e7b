// The policies that an evaluation compares.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/budget_curve.h"
#include "engine/evict/policy.h"

namespace lukv {

// "full,lukv+keydiff@0.8:sink=4,window=8,adakv+snapkv" -> three names: commas inside a policy's options are not cuts.
std::vector<std::string> SplitPolicyNames(std::string_view list);

// Names without a budget ("lukv+keydiff", "lukv+keydiff:sink=8") stand for one policy of each ratio. `full` comes first
// whether it is named or not, as all others are measured against it; each policy comes once. INVALID_ARGUMENT as
// ParsePolicy.
absl::StatusOr<std::vector<Policy>> ExpandPolicies(std::span<const std::string> names, std::span<const double> ratios);

struct EvalPolicy {
  Policy policy;
  std::string name;                    // PolicyName
  const BudgetCurve* curve = nullptr;  // Of LU-KV.
};

// The curves must outlive the result. INVALID_ARGUMENT names the first policy that has no curve, and the curves there
// are.
absl::StatusOr<std::vector<EvalPolicy>> WithCurves(std::span<const Policy> policies, const CurveSet& curves);

}  // namespace lukv
