// The eviction policy that a call's metadata names: for clients that cannot put it into the request.
#pragma once

#include <grpcpp/server_context.h>

#include <optional>
#include <utility>
#include <vector>

#include "server/validate.h"

namespace lukv {

inline constexpr char kEvictionMetadata[] = "x-lukv-eviction";

// Makes the policy that the call names the default of `limits`. What is wrong with it, if something is: it is not one
// that the server can honour, or there are several.
std::optional<FieldViolation> ApplyEvictionMetadata(const grpc::ServerContextBase& context, RequestLimits& limits);

// validate(limits), a Validated<T>, with the policy that the call names as the default.
template <typename Validate>
auto WithEvictionOf(const grpc::ServerContextBase& context, RequestLimits limits, Validate validate)
    -> decltype(validate(limits)) {
  if (auto violation = ApplyEvictionMetadata(context, limits)) return std::vector{*std::move(violation)};
  return validate(limits);
}

}  // namespace lukv
