// absl::Status -> grpc::Status with google.rpc details, as inference.proto describes them.
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace lukv {

struct FieldViolation {
  std::string field;        // "sampling.top_p"
  std::string description;  // "got 1.5; allowed is (0, 1]"
};

// ErrorInfo's reason is the refusal's (engine/refusal.h) or follows from the code; RESOURCE_EXHAUSTED and UNAVAILABLE
// get a RetryInfo.
grpc::Status ToGrpcStatus(const absl::Status& status);
// With another reason than the code's own: UNAVAILABLE is SHUTTING_DOWN if nothing else is said.
grpc::Status ToGrpcStatus(const absl::Status& status, std::string_view reason);

// INVALID_ARGUMENT whose message is the first violation and whose details have all (the first 16, to fit into
// metadata). REQUIRES: at least one.
grpc::Status BadRequestStatus(const std::vector<FieldViolation>& violations);

}  // namespace lukv
