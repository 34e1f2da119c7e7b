#include "server/eviction_metadata.h"

#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"

namespace lukv {

std::optional<FieldViolation> ApplyEvictionMetadata(const grpc::ServerContextBase& context, RequestLimits& limits) {
  const auto [begin, end] = context.client_metadata().equal_range(kEvictionMetadata);
  if (begin == end) return std::nullopt;
  const auto violation = [](std::string description) {
    return FieldViolation{.field = kEvictionMetadata, .description = std::move(description)};
  };
  if (const auto count = std::distance(begin, end); count > 1) {
    return violation(absl::StrCat("got ", count, "; allowed is one"));
  }
  const absl::StatusOr<Policy> policy = ParsePolicy(std::string(begin->second.data(), begin->second.size()));
  if (!policy.ok()) return violation(std::string(policy.status().message()));
  if (const absl::Status honoured = limits.make_plan(*policy, 1).status(); !honoured.ok()) {
    return violation(std::string(honoured.message()));
  }
  limits.default_policy = *policy;
  return std::nullopt;
}

}  // namespace lukv
