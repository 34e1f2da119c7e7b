#include "server/gate.h"

#include <grpc/grpc_security_constants.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "server/grpc_status.h"

namespace lukv {
namespace {

constexpr char kHeader[] = "authorization";
const std::string kScheme = "Bearer ";

// Only what gRPC itself calls insecure: whatever else there may be some day asks for keys.
bool IsPlaintext(const grpc::ServerContextBase& context) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth == nullptr) return false;
  const std::vector<grpc::string_ref> types = auth->FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  return types.size() == 1 && types[0] == "insecure";
}

std::optional<std::string> KeyOf(const grpc::ServerContextBase& context) {
  const auto [begin, end] = context.client_metadata().equal_range(kHeader);
  if (begin == end || std::next(begin) != end) return std::nullopt;
  const std::string value(begin->second.data(), begin->second.size());
  if (!absl::StartsWithIgnoreCase(value, kScheme)) return std::nullopt;
  return value.substr(kScheme.size());
}

grpc::Status Limited(const absl::Status& status) {
  return status.ok() ? grpc::Status::OK : ToGrpcStatus(status, "KEY_LIMIT");
}

}  // namespace

grpc::Status Gate::Enter(const grpc::ServerContextBase& context, Caller& caller) const {
  if (keys_ == nullptr) return grpc::Status::OK;
  const std::optional<std::string> key = KeyOf(context);
  if (!key.has_value()) {
    if (plaintext_is_exempt_ && IsPlaintext(context)) return grpc::Status::OK;
    return ToGrpcStatus(absl::UnauthenticatedError("give an API key: the metadata \"authorization: Bearer KEY\""));
  }
  std::optional<Caller> found = keys_->Find(*key);
  if (!found.has_value()) return ToGrpcStatus(absl::UnauthenticatedError("the API key is not known"));
  caller = *std::move(found);
  return grpc::Status::OK;
}

grpc::Status Gate::Begin(const Caller& caller, KeyUse& use) {
  absl::StatusOr<KeyUse> begun = caller.Begin();
  if (!begun.ok()) return Limited(begun.status());
  use = *std::move(begun);
  return grpc::Status::OK;
}

grpc::Status Gate::Queue(KeyUse& use, int64_t prompt_tokens) { return Limited(use.Queue(prompt_tokens)); }

}  // namespace lukv
