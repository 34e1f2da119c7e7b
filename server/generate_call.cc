#include "server/generate_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/refusal.h"
#include "server/grpc_status.h"
#include "server/log.h"

namespace lukv {
namespace {

// Room for what comes while a message is on its way. Small: a parked request loses nothing but its turn.
constexpr size_t kOutboxEvents = 64;

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

grpc::Status GenerateCall::Start(GenerateInput input, CallOrigin origin) {
  const absl::Status added = context_.registry->Add(input.request.tenant, input.request.id, weak_from_this());
  if (!added.ok()) {
    context_.metrics->OnRefused(absl::IsUnavailable(added) ? "shutting_down" : "duplicate_request_id");
    return absl::IsUnavailable(added) ? ToGrpcStatus(added, "SHUTTING_DOWN") : ToGrpcStatus(added);
  }
  self_ = shared_from_this();
  Submit(std::move(input), std::move(origin));
  return grpc::Status::OK;
}

void GenerateCall::Submit(GenerateInput input, CallOrigin origin) {
  MutexLock lock(&mutex_);
  origin_ = std::move(origin);
  ValidRequest& request = input.request;
  tenant_ = request.tenant;
  id_ = request.id;
  stops_ = std::move(input.stop);
  silent_ids_ = request.stop_ids;
  if (!request.ignore_eos) {
    const std::vector<TokenId>& end = context_.tokenizer->end_tokens();
    silent_ids_.insert(silent_ids_.end(), end.begin(), end.end());
  }
  logprobs_ = request.logprobs;
  prompt_tokens_ = static_cast<int32_t>(request.prompt.size());
  policy_ = std::move(input.policy);
  for (int32_t i = 0; i < request.n; ++i) {
    samples_.push_back(Sample{.text = SampleText(*context_.tokenizer, stops_, request.min_tokens, input.show_special)});
  }
  // The box may run this after the call is gone.
  auto on_ready = [weak = weak_from_this(), executor = context_.executor] {
    executor->Post([weak] {
      if (const std::shared_ptr<GenerateCall> call = weak.lock()) call->Pump();
    });
  };
  outbox_ = std::make_shared<Outbox>(std::max(kOutboxEvents, static_cast<size_t>(request.n) * 4), std::move(on_ready));
  ticket_ = context_.engine->Submit(std::move(request), outbox_);
  // The registry knew the call before it had a ticket.
  if (!abort_status_.ok()) context_.engine->Cancel(ticket_);
}

void GenerateCall::Pump() {
  MutexLock lock(&mutex_);
  if (writing_ && !broken_ && origin_.cut != nullptr) {
    // Its end cannot be told to a client that does not read: what it is told goes behind what it did not take.
    const std::optional<absl::Status> ended = outbox_->Ended();
    if (ended.has_value() && RefusalOf(*ended) == Refusal::kSlowClient) origin_.cut();
  }
  if (writing_ || finished_) return;
  if (broken_) DropMessages();
  if (MessageCount() == 0 && !end_.has_value()) {
    Consume(outbox_->Take());
    ObserveTokens();
    if (broken_) DropMessages();
  }
  if (end_.has_value() && MessageCount() <= 1) {
    finished_ = true;
    origin_.key = KeyUse();  // Who has read the end may come again at once.
    FinishCall(*end_);
  } else if (MessageCount() > 0) {
    writing_ = true;
    StartWriteMessage();
  }
}

void GenerateCall::DropMessages() {
  while (MessageCount() > 0) PopMessage();
}

void GenerateCall::Consume(const std::vector<Event>& events) {
  for (const Event& event : events) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
      OnToken(*token);
    } else if (const auto* finish = std::get_if<FinishEvent>(&event)) {
      OnFinish(*finish);
    } else {
      OnEnd(std::get<DoneEvent>(event));
    }
  }
}

void GenerateCall::OnToken(const TokenEvent& event) {
  Sample& sample = samples_[event.sample];
  if (sample.finished) return;  // Made before the engine heard of the stop string.
  ++sample.arrived;
  std::string text;
  const int32_t stop = sample.text.Push(event.token, Contains(silent_ids_, event.token), text);
  WriteToken(event, text);
  if (stop < 0) return;
  sample.finished = true;
  context_.engine->Finish(ticket_, event.sample, sample.text.tokens());
  WriteSampleEnd({.sample = event.sample, .reason = FinishReason::kStop, .stop = &stops_[stop]}, "");
  context_.metrics->OnSampleEnd(Outcome::kStop, 1);
}

void GenerateCall::OnFinish(const FinishEvent& event) {
  Sample& sample = samples_[event.sample];
  if (sample.finished) return;  // Ended by its stop string.
  sample.finished = true;
  std::string rest;
  sample.text.Finish(rest);
  WriteSampleEnd({.sample = event.sample, .reason = event.reason, .stop_token = event.stop_token}, rest);
  context_.metrics->OnSampleEnd(event.reason == FinishReason::kStop ? Outcome::kStop : Outcome::kLength, 1);
}

void GenerateCall::ObserveTokens() {
  const absl::Time now = absl::Now();
  for (Sample& sample : samples_) {
    if (sample.arrived == 0) continue;
    if (!first_token_seen_) {
      first_token_seen_ = true;
      origin_.key.Unqueue();
      context_.metrics->OnFirstToken(now - arrival_);
    }
    if (sample.last_token == absl::InfinitePast()) {
      --sample.arrived;  // A sample's first token has none before it.
      sample.last_token = now;
    }
    if (sample.arrived > 0) context_.metrics->OnTokens(now - sample.last_token, sample.arrived);
    sample.last_token = now;
    sample.arrived = 0;
  }
}

void GenerateCall::OnEnd(const DoneEvent& done) {
  const absl::Status& status = done.status.ok() || abort_status_.ok() ? done.status : abort_status_;
  Account(done, status);
  end_ = ToGrpcStatus(WriteEnd(status, done.usage));
}

void GenerateCall::Account(const DoneEvent& done, const absl::Status& status) {
  const auto unfinished = static_cast<int32_t>(
      std::count_if(samples_.begin(), samples_.end(), [](const Sample& sample) { return !sample.finished; }));
  const absl::Duration total = absl::Now() - arrival_;
  if (status.ok()) {
    context_.metrics->OnRequestEnd(done.usage, policy_, total);
  } else if (const Refusal refusal = RefusalOf(status); refusal != Refusal::kNone) {
    context_.metrics->OnRefused(RefusalName(refusal));
  } else if (unfinished > 0) {
    context_.metrics->OnSampleEnd(absl::IsInternal(status) ? Outcome::kError : Outcome::kAbort, unfinished);
  }
  LogRequest({.id = id_,
              .traceparent = origin_.traceparent,
              .tenant = tenant_,
              .policy = policy_,
              .code = absl::StatusCodeToString(status.code()),
              .reason = std::string(status.message()),
              .prompt_tokens = done.usage.prompt_tokens,
              .cached_tokens = done.usage.cached_tokens,
              .generated_tokens = done.usage.generated_tokens,
              .preemptions = done.usage.preemptions,
              .queue = done.usage.queue,
              .first_token = done.usage.first_token,
              .total = total});
}

void GenerateCall::HandleWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    PopMessage();
    if (!ok) {
      broken_ = true;
      context_.engine->Cancel(ticket_);
    }
  }
  Pump();
}

void GenerateCall::HandleCancel() {
  MutexLock lock(&mutex_);
  broken_ = true;
  if (!end_.has_value()) context_.engine->Cancel(ticket_);
}

void GenerateCall::Abort(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (end_.has_value()) return;
  abort_status_ = status;
  context_.engine->Cancel(ticket_);
}

void GenerateCall::HandleDone() {
  // Whoever waits for the registry to be empty may destroy what the call uses: let the call go first.
  CallRegistry* registry = context_.registry;
  const std::string tenant = tenant_;
  const std::string id = id_;
  self_.reset();
  registry->Remove(tenant, id);
}

}  // namespace lukv
