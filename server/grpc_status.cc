#include "server/grpc_status.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "engine/refusal.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace lukv {
namespace {

constexpr char kDomain[] = "lukv";
// A step of the engine is far shorter, a whole answer longer; one second keeps retries from piling up.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);
// Details travel as metadata, of which many clients accept 8 KiB.
constexpr size_t kMaxViolations = 16;

std::string DefaultReason(const absl::Status& status) {
  if (const Refusal refusal = RefusalOf(status); refusal != Refusal::kNone) {
    return absl::AsciiStrToUpper(std::string(RefusalName(refusal)));
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_REQUEST";
    case absl::StatusCode::kUnauthenticated:
      return "UNAUTHENTICATED";
    case absl::StatusCode::kAlreadyExists:
      return "DUPLICATE_REQUEST_ID";
    case absl::StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case absl::StatusCode::kUnavailable:
      return "SHUTTING_DOWN";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kUnimplemented:
      return "UNIMPLEMENTED";
    default:
      return "INTERNAL";
  }
}

google::rpc::Status WithErrorInfo(grpc::StatusCode code, const std::string& message, std::string_view reason) {
  google::rpc::Status proto;
  proto.set_code(code);
  proto.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(kDomain);
  proto.add_details()->PackFrom(info);
  return proto;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) { return ToGrpcStatus(status, DefaultReason(status)); }

grpc::Status ToGrpcStatus(const absl::Status& status, std::string_view reason) {
  if (status.ok()) return grpc::Status::OK;
  // The two enumerations share their numbers.
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message(status.message());
  google::rpc::Status proto = WithErrorInfo(code, message, reason);
  if (code == grpc::RESOURCE_EXHAUSTED || code == grpc::UNAVAILABLE) {
    const absl::Duration told = RetryAfter(status);
    const absl::Duration delay = told > absl::ZeroDuration() ? told : kRetryAfter;
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(delay / absl::Seconds(1));
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay % absl::Seconds(1) / absl::Nanoseconds(1)));
    proto.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, proto.SerializeAsString());
}

grpc::Status BadRequestStatus(const std::vector<FieldViolation>& violations) {
  LUKV_CHECK(!violations.empty());
  std::string message = absl::StrCat(violations[0].field, ": ", violations[0].description);
  if (violations.size() > 1) absl::StrAppend(&message, " (and ", violations.size() - 1, " more)");
  google::rpc::Status proto =
      WithErrorInfo(grpc::INVALID_ARGUMENT, message, DefaultReason(absl::InvalidArgumentError("")));
  google::rpc::BadRequest bad_request;
  for (size_t i = 0; i < std::min(violations.size(), kMaxViolations); ++i) {
    auto* out = bad_request.add_field_violations();
    out->set_field(violations[i].field);
    out->set_description(violations[i].description);
  }
  proto.add_details()->PackFrom(bad_request);
  return grpc::Status(grpc::INVALID_ARGUMENT, message, proto.SerializeAsString());
}

}  // namespace lukv
