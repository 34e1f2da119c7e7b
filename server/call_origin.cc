#include "server/call_origin.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "server/gate.h"

namespace lukv {
namespace {

// Lower case hexadecimal, not all zeros.
bool IsId(std::string_view text, size_t digits) {
  const bool hexadecimal =
      std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  return text.size() == digits && hexadecimal && text.find_first_not_of('0') != std::string_view::npos;
}

}  // namespace

bool IsTraceparent(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '-');
  return parts.size() == 4 && parts[0] == "00" && IsId(parts[1], 32) && IsId(parts[2], 16) &&
         (parts[3] == "00" || IsId(parts[3], 2));
}

grpc::Status MakeOrigin(grpc::CallbackServerContext& context, const Caller& caller, CallOrigin& origin) {
  if (grpc::Status status = Gate::Begin(caller, origin.key); !status.ok()) return status;
  const auto found = context.client_metadata().find("traceparent");
  if (found != context.client_metadata().end()) {
    std::string text(found->second.data(), found->second.size());
    if (IsTraceparent(text)) origin.traceparent = std::move(text);
  }
  origin.cut = [&context] { context.TryCancel(); };
  return grpc::Status::OK;
}

}  // namespace lukv
