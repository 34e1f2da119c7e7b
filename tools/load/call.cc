#include "tools/load/call.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace lukv {
namespace {

constexpr std::array kCodes = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

// "" if the status does not carry one.
std::string ReasonOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return "";
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::ErrorInfo info;
    if (any.UnpackTo(&info) && info.domain() == "lukv") return info.reason();
  }
  return "";
}

std::chrono::system_clock::time_point After(absl::Duration duration) {
  return std::chrono::system_clock::now() + absl::ToChronoMicroseconds(duration);
}

v1::GenerateRequest ToProto(const PlannedRequest& plan, const LoadOptions& options) {
  v1::GenerateRequest request;
  if (!plan.context.empty()) {
    request.mutable_context_token_ids()->mutable_ids()->Add(plan.context.begin(), plan.context.end());
  }
  request.mutable_token_ids()->mutable_ids()->Add(plan.prompt.begin(), plan.prompt.end());
  request.mutable_sampling()->set_temperature(0);
  request.set_max_tokens(plan.output);
  request.set_ignore_eos(true);
  request.set_priority(plan.priority);
  if (!options.policy.empty()) request.set_policy(options.policy);
  return request;
}

}  // namespace

const char* EndingName(Ending ending) {
  static constexpr std::array kNames = {"ok", "refused", "deadline", "cancelled", "killed", "slow", "failed", "stuck"};
  return kNames[static_cast<size_t>(ending)];
}

LoadCall::LoadCall(PlannedRequest plan, const LoadOptions& options, std::shared_ptr<Connection> connection,
                   const RunClock& clock, double due, Report on_done)
    : plan_(std::move(plan)),
      slow_pause_(options.slow_pause),
      connection_(std::move(connection)),
      clock_(clock),
      on_done_(std::move(on_done)),
      request_(ToProto(plan_, options)) {
  record_.index = plan_.index;
  record_.manner = plan_.manner;
  record_.priority = plan_.priority;
  record_.prompt_tokens = static_cast<int32_t>(plan_.context.size() + plan_.prompt.size());
  record_.shared_context = !plan_.context.empty();
  record_.asked_output = plan_.output;
  record_.due = due;
}

void LoadCall::Start() {
  record_.sent = clock_.Now();
  connection_->Prepare(context_);
  if (plan_.manner == Manner::kDeadline) context_.set_deadline(After(plan_.deadline));
  cancelled_ = plan_.manner == Manner::kCancels && plan_.cancel_after == 0;
  connection_->stub().async()->Generate(&context_, &request_, this);
  StartRead(&response_);
  // Once started it may end, and be gone, before StartCall returns.
  const bool cancel = cancelled_;
  if (cancel) AddHold();
  StartCall();
  if (cancel) {
    context_.TryCancel();
    RemoveHold();
  }
}

void LoadCall::Cancel() {
  cancelled_ = true;
  context_.TryCancel();
}

void LoadCall::GiveUp() {
  given_up_ = true;
  context_.TryCancel();
}

void LoadCall::OnReadDone(bool ok) {
  if (!ok) return;
  int32_t tokens = 0;
  for (const v1::Delta& delta : response_.deltas()) tokens += delta.token_ids_size();
  if (tokens > 0) {
    record_.messages.push_back(clock_.Now());
    record_.tokens += tokens;
  }
  if (response_.has_usage()) {
    const v1::Usage& usage = response_.usage();
    record_.reported_tokens = usage.generated_tokens();
    record_.cached_tokens = usage.cached_tokens();
    record_.preemptions = usage.preemptions();
    record_.queue_seconds = usage.queue_seconds();
  }
  if (plan_.manner == Manner::kCancels && !cancelled_ && record_.tokens >= plan_.cancel_after) {
    Cancel();
  }
  if (plan_.manner != Manner::kSlow) {
    StartRead(&response_);
    return;
  }
  AddHold();
  pause_.Set(After(slow_pause_), [this](bool) {
    StartRead(&response_);
    RemoveHold();
  });
}

void LoadCall::Classify(const grpc::Status& status) {
  const std::string stated = ReasonOf(status);
  const auto code = static_cast<size_t>(status.error_code());
  record_.answered = status.ok() || !stated.empty();
  record_.reason = stated.empty() ? kCodes[code < kCodes.size() ? code : 2] : stated;
  const bool late = status.error_code() == grpc::DEADLINE_EXCEEDED || stated == "DEADLINE";
  const bool lost = status.error_code() == grpc::UNAVAILABLE || status.error_code() == grpc::CANCELLED;
  if (status.ok()) {
    record_.ending = Ending::kOk;
  } else if (given_up_) {
    record_.ending = Ending::kStuck;
  } else if (cancelled_ && status.error_code() == grpc::CANCELLED) {
    record_.ending = Ending::kCancelled;
  } else if (connection_->cut() && stated.empty() && lost) {
    record_.ending = Ending::kKilled;
  } else if (plan_.manner == Manner::kDeadline && late) {
    record_.ending = Ending::kDeadline;
  } else if (plan_.manner == Manner::kSlow && stated == "SLOW_CLIENT") {
    record_.ending = Ending::kSlow;
  } else if (!stated.empty() && record_.tokens == 0 && stated != "INTERNAL") {
    record_.ending = Ending::kRefused;
  } else {
    record_.ending = Ending::kFailed;
    record_.message = absl::StrCat(record_.reason, ": ", status.error_message());
  }
}

void LoadCall::OnDone(const grpc::Status& status) {
  record_.ended = clock_.Now();
  Classify(status);
  on_done_(this, std::move(record_));
  delete this;
}

}  // namespace lukv
