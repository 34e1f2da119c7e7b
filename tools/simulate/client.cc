#include "tools/simulate/client.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"

namespace lukv {

Client::Client(Ticket ticket, PlannedRequest planned, const EngineOptions& engine, bool faults, absl::Time submitted)
    : ticket_(ticket),
      planned_(std::move(planned)),
      queue_timeout_(engine.queue_timeout),
      faults_(faults),
      submitted_(submitted),
      tokens_(static_cast<size_t>(planned_.request.n)),
      finished_(static_cast<size_t>(planned_.request.n)) {}

std::string Client::Receive(Event event, absl::Time now) {
  if (done()) return "an event after the last one";
  if (const auto* token = std::get_if<TokenEvent>(&event)) return CheckToken(*token);
  if (const auto* finish = std::get_if<FinishEvent>(&event)) return CheckFinish(*finish);
  std::string wrong = CheckDone(std::get<DoneEvent>(event), now);
  done_ = std::get<DoneEvent>(std::move(event));
  return wrong;
}

std::string Client::CheckToken(const TokenEvent& event) {
  if (event.sample < 0 || event.sample >= planned_.request.n) return absl::StrCat("a token of sample ", event.sample);
  const size_t sample = static_cast<size_t>(event.sample);
  if (finished_[sample].has_value()) return "a token after its sample's end";
  tokens_[sample].push_back(event.token);
  ++received_;
  if (static_cast<int32_t>(tokens_[sample].size()) > planned_.request.max_tokens) return "more tokens than asked for";
  if (!std::isfinite(event.logprob)) return "a log-probability that is no number";
  const size_t alternatives = planned_.request.logprobs ? static_cast<size_t>(planned_.request.top_logprobs) : 0;
  return event.alternatives.size() == alternatives ? "" : "another number of alternatives than asked for";
}

std::string Client::CheckFinish(const FinishEvent& event) {
  if (event.sample < 0 || event.sample >= planned_.request.n) return absl::StrCat("the end of sample ", event.sample);
  const size_t sample = static_cast<size_t>(event.sample);
  if (finished_[sample].has_value()) return "a sample ended twice";
  finished_[sample] = event;
  const std::vector<TokenId>& tokens = tokens_[sample];
  if (event.reason == FinishReason::kLength) {
    return static_cast<int32_t>(tokens.size()) == planned_.request.max_tokens ? "" : "ended by its length too early";
  }
  if (event.stop_token < 0) {
    return told_to_finish_ && sample == 0 ? "" : "stopped by nothing";
  }
  const std::vector<TokenId>& stops = planned_.request.stop_ids;
  const bool stops_here = (event.stop_token == kSimulatedEnd && !planned_.request.ignore_eos) ||
                          std::find(stops.begin(), stops.end(), event.stop_token) != stops.end();
  if (!stops_here || tokens.empty() || tokens.back() != event.stop_token)
    return "stopped by a token that stops nothing";
  return static_cast<int32_t>(tokens.size()) > planned_.request.min_tokens ? "" : "stopped before min_tokens";
}

std::string Client::CheckDone(const DoneEvent& event, absl::Time now) const {
  const absl::Status& status = event.status;
  bool allowed = false;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return CheckOk(event.usage);
    case absl::StatusCode::kCancelled:
      allowed = cancelled_;
      break;
    case absl::StatusCode::kUnavailable:
      allowed = server_stopped_;
      break;
    case absl::StatusCode::kDeadlineExceeded:
      allowed = now >= deadline();
      break;
    case absl::StatusCode::kInternal:
      allowed = faults_;
      break;
    case absl::StatusCode::kAborted:
      allowed = RefusalOf(status) == Refusal::kSlowClient && planned_.reading > absl::ZeroDuration();
      break;
    case absl::StatusCode::kInvalidArgument:
      allowed = RefusalOf(status) == Refusal::kNeverFits && received_ == 0;
      break;
    case absl::StatusCode::kResourceExhausted:
      return CheckRefused(status, now);
    default:
      break;
  }
  return allowed ? "" : absl::StrCat("ended with ", status.ToString());
}

std::string Client::CheckRefused(const absl::Status& status, absl::Time now) const {
  const std::string wrong = absl::StrCat("refused with ", status.ToString());
  if (received_ > 0) return absl::StrCat("after ", received_, " tokens ", wrong);
  switch (RefusalOf(status)) {
    case Refusal::kQueueFull:
      return RetryAfter(status) > absl::ZeroDuration() ? "" : absl::StrCat("without a time to try again ", wrong);
    case Refusal::kQueueTimeout:
      return now - submitted_ >= queue_timeout_ ? "" : absl::StrCat("too early ", wrong);
    case Refusal::kDeadline:
      return planned_.deadline < absl::InfiniteDuration() ? "" : wrong;
    case Refusal::kPinnedFull:
      return planned_.request.max_tokens == 0 ? "" : wrong;
    default:
      return wrong;
  }
}

std::string Client::CheckOk(const Usage& usage) const {
  const bool context_alone = planned_.request.max_tokens == 0;
  for (const auto& finish : finished_) {
    if (!finish.has_value() && !context_alone) return "OK without an end of each sample";
  }
  if (usage.prompt_tokens != static_cast<int32_t>(planned_.request.prompt.size())) {
    return absl::StrCat("usage has ", usage.prompt_tokens, " prompt tokens");
  }
  const int64_t counted_tokens =
      received_ -
      (ended_by_client() ? static_cast<int64_t>(tokens_[0].size()) - static_cast<int64_t>(counted().size()) : 0);
  return usage.generated_tokens == counted_tokens
             ? ""
             : absl::StrCat("usage has ", usage.generated_tokens, " tokens, ", counted_tokens, " came");
}

bool Client::WantsFinish() const {
  return planned_.finish_after > 0 && !told_to_finish_ && !finished_[0].has_value() && !done() &&
         static_cast<int32_t>(tokens_[0].size()) >= planned_.finish_after;
}

bool Client::ended_by_client() const {
  return told_to_finish_ && finished_[0].has_value() && finished_[0]->reason == FinishReason::kStop &&
         finished_[0]->stop_token < 0;
}

std::vector<TokenId> Client::counted() const {
  std::vector<TokenId> tokens = tokens_[0];
  if (ended_by_client()) tokens.resize(static_cast<size_t>(planned_.finish_after));
  return tokens;
}

}  // namespace lukv
