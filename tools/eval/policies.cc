#include "tools/eval/policies.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

// "window=8": goes on with the options of the policy before the comma.
bool IsOption(std::string_view piece) {
  const size_t end = piece.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
  return end != std::string_view::npos && end > 0 && piece[end] == '=';
}

}  // namespace

std::vector<std::string> SplitPolicyNames(std::string_view list) {
  std::vector<std::string> names;
  while (true) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view piece = list.substr(0, comma);
    if (!names.empty() && IsOption(piece)) {
      names.back() += StrCat(",", piece);
    } else {
      names.emplace_back(piece);
    }
    if (comma == list.size()) return names;
    list.remove_prefix(comma + 1);
  }
}

absl::StatusOr<std::vector<Policy>> ExpandPolicies(std::span<const std::string> names, std::span<const double> ratios) {
  std::vector<Policy> policies = {Policy{}};
  const auto add = [&](const std::string& name) -> absl::Status {
    LUKV_ASSIGN_OR_RETURN(const Policy policy, ParsePolicy(name));
    if (policy.full) return absl::OkStatus();
    if (std::find(policies.begin(), policies.end(), policy) == policies.end()) policies.push_back(policy);
    return absl::OkStatus();
  };
  for (const std::string& name : names) {
    if (name == "full" || name.find('@') != std::string::npos) {
      LUKV_RETURN_IF_ERROR(add(name));
      continue;
    }
    const size_t options = std::min(name.find(':'), name.size());
    for (const double ratio : ratios) {
      LUKV_RETURN_IF_ERROR(
          add(StrCat(name.substr(0, options), "@", absl::StrFormat("%.10g", ratio), name.substr(options))));
    }
  }
  return policies;
}

absl::StatusOr<std::vector<EvalPolicy>> WithCurves(std::span<const Policy> policies, const CurveSet& curves) {
  std::vector<EvalPolicy> found;
  for (const Policy& policy : policies) {
    EvalPolicy& entry = found.emplace_back(EvalPolicy{.policy = policy, .name = PolicyName(policy)});
    if (policy.full || policy.allocator != Allocator::kLuKv) continue;
    entry.curve = curves.Get(policy.scorer, policy.sink, policy.window);
    if (entry.curve != nullptr) continue;
    const std::string label = ScorerLabel(policy.scorer, policy.sink, policy.window);
    return absl::InvalidArgumentError(StrCat(entry.name, ": the model has no budget curve for ", label, "; it has ",
                                             curves.empty() ? "none" : absl::StrJoin(curves.Labels(), ", "),
                                             " (lukv-profile --scorer ", label,
                                             " makes one, --curves names its folder)"));
  }
  return found;
}

}  // namespace lukv
