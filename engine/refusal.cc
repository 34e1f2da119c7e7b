#include "engine/refusal.h"

#include <iterator>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "base/check.h"

namespace lukv {
namespace {

// Payloads of a status.
constexpr char kRefusal[] = "lukv/refusal";
constexpr char kRetryAfterMs[] = "lukv/retry-after-ms";

struct Kind {
  std::string_view name;
  absl::StatusCode code;
};
constexpr Kind kKinds[] = {
    {"", absl::StatusCode::kOk},
    {"never_fits", absl::StatusCode::kInvalidArgument},
    {"queue_full", absl::StatusCode::kResourceExhausted},
    {"queue_timeout", absl::StatusCode::kResourceExhausted},
    {"deadline", absl::StatusCode::kResourceExhausted},
    {"pinned_full", absl::StatusCode::kResourceExhausted},
    {"slow_client", absl::StatusCode::kAborted},
};

}  // namespace

std::string_view RefusalName(Refusal refusal) { return kKinds[static_cast<size_t>(refusal)].name; }

absl::Status Refused(Refusal refusal, std::string_view message, absl::Duration retry_after) {
  LUKV_CHECK(refusal != Refusal::kNone);
  const Kind& kind = kKinds[static_cast<size_t>(refusal)];
  absl::Status status(kind.code, std::string(message));
  status.SetPayload(kRefusal, absl::Cord(std::string(kind.name)));
  if (retry_after > absl::ZeroDuration()) {
    status.SetPayload(kRetryAfterMs, absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(retry_after))));
  }
  return status;
}

Refusal RefusalOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRefusal);
  if (!payload.has_value()) return Refusal::kNone;
  for (size_t i = 1; i < std::size(kKinds); ++i) {
    if (*payload == std::string(kKinds[i].name)) return static_cast<Refusal>(i);
  }
  return Refusal::kNone;
}

absl::Duration RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfterMs);
  int64_t ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &ms)) return absl::ZeroDuration();
  return absl::Milliseconds(ms);
}

}  // namespace lukv
