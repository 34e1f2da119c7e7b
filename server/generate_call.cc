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

class RefusedCall final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  explicit RefusedCall(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* RefuseGenerate(const grpc::Status& status) {
  return new RefusedCall(status);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateCall::Start(const CallContext& context, GenerateInput input) {
  auto call = std::make_shared<GenerateCall>(context);
  const absl::Status added = context.registry->Add(input.request.id, call);
  if (!added.ok()) {
    context.metrics->OnRefused(absl::IsUnavailable(added) ? "shutting_down" : "duplicate_request_id");
    return RefuseGenerate(absl::IsUnavailable(added) ? ToGrpcStatus(added, "SHUTTING_DOWN") : ToGrpcStatus(added));
  }
  call->self_ = call;
  call->Submit(std::move(input));
  return call.get();
}

void GenerateCall::Submit(GenerateInput input) {
  MutexLock lock(&mutex_);
  ValidRequest& request = input.request;
  id_ = request.id;
  stops_ = std::move(input.stop);
  silent_ids_ = request.stop_ids;
  if (!request.ignore_eos) {
    const std::vector<TokenId>& end = context_.tokenizer->end_tokens();
    silent_ids_.insert(silent_ids_.end(), end.begin(), end.end());
  }
  logprobs_ = request.logprobs;
  policy_ = std::move(input.policy);
  for (int32_t i = 0; i < request.n; ++i) {
    samples_.push_back(Sample{.text = SampleText(*context_.tokenizer, stops_, request.min_tokens)});
  }
  // The box may run this after the call is gone.
  auto on_ready = [weak = weak_from_this(), executor = context_.executor] {
    executor->Post([weak] {
      if (const std::shared_ptr<GenerateCall> call = weak.lock()) call->Pump();
    });
  };
  outbox_ = std::make_shared<Outbox>(std::max(kOutboxEvents, static_cast<size_t>(request.n) * 4), std::move(on_ready));
  ticket_ = context_.engine->Submit(std::move(request), outbox_);
}

void GenerateCall::Pump() {
  MutexLock lock(&mutex_);
  if (writing_ || ended_) return;
  response_.Clear();
  const std::optional<DoneEvent> done = Consume(outbox_->Take());
  ObserveTokens();
  if (done.has_value()) {
    End(*done);
  } else if (!broken_ && (response_.deltas_size() > 0 || response_.finishes_size() > 0)) {
    writing_ = true;
    StartWrite(&response_);
  }
}

std::optional<DoneEvent> GenerateCall::Consume(std::vector<Event> events) {
  for (Event& event : events) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
      OnToken(*token);
    } else if (const auto* finish = std::get_if<FinishEvent>(&event)) {
      OnFinish(*finish);
    } else {
      return std::get<DoneEvent>(std::move(event));
    }
  }
  return std::nullopt;
}

void GenerateCall::OnToken(const TokenEvent& event) {
  Sample& sample = samples_[event.sample];
  if (sample.finished) return;  // Made before the engine heard of the stop string.
  ++sample.arrived;
  v1::Delta& delta = DeltaOf(event.sample);
  delta.add_token_ids(event.token);
  if (logprobs_) {
    v1::TokenLogprob& out = *delta.add_logprobs();
    FillLogprob({.token = event.token, .logprob = event.logprob}, out);
    for (const TokenLogprob& alternative : event.alternatives) FillLogprob(alternative, *out.add_alternatives());
  }
  const int32_t stop = sample.text.Push(event.token, Contains(silent_ids_, event.token), *delta.mutable_text());
  if (stop < 0) return;
  sample.finished = true;
  context_.engine->Finish(ticket_, event.sample, sample.text.tokens());
  v1::Finish& finish = *response_.add_finishes();
  finish.set_index(event.sample);
  finish.set_reason(v1::FINISH_REASON_STOP);
  finish.set_stop(stops_[stop]);
  context_.metrics->OnSampleEnd(Outcome::kStop, 1);
}

void GenerateCall::OnFinish(const FinishEvent& event) {
  Sample& sample = samples_[event.sample];
  if (sample.finished) return;  // Ended by its stop string.
  sample.finished = true;
  std::string rest;
  sample.text.Finish(rest);
  if (!rest.empty()) DeltaOf(event.sample).mutable_text()->append(rest);
  v1::Finish& finish = *response_.add_finishes();
  finish.set_index(event.sample);
  finish.set_reason(event.reason == FinishReason::kStop ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
  if (event.stop_token >= 0) finish.set_token_id(event.stop_token);
  context_.metrics->OnSampleEnd(event.reason == FinishReason::kStop ? Outcome::kStop : Outcome::kLength, 1);
}

v1::Delta& GenerateCall::DeltaOf(int32_t sample) {
  for (v1::Delta& delta : *response_.mutable_deltas()) {
    if (delta.index() == sample) return delta;
  }
  v1::Delta& delta = *response_.add_deltas();
  delta.set_index(sample);
  return delta;
}

void GenerateCall::FillLogprob(const TokenLogprob& logprob, v1::TokenLogprob& out) const {
  out.set_token_id(logprob.token);
  out.set_token(context_.tokenizer->Piece(logprob.token, /*special=*/true));
  out.set_logprob(logprob.logprob);
}

void GenerateCall::ObserveTokens() {
  const absl::Time now = absl::Now();
  for (Sample& sample : samples_) {
    if (sample.arrived == 0) continue;
    if (!first_token_seen_) {
      first_token_seen_ = true;
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

void GenerateCall::End(const DoneEvent& done) {
  ended_ = true;
  const absl::Status& status = done.status.ok() || abort_status_.ok() ? done.status : abort_status_;
  Account(done, status);
  if (status.ok()) {
    v1::Usage& usage = *response_.mutable_usage();
    usage.set_prompt_tokens(done.usage.prompt_tokens);
    usage.set_generated_tokens(done.usage.generated_tokens);
    usage.set_kv_bytes_full(done.usage.kv_bytes_full);
    usage.set_kv_bytes_resident(done.usage.kv_bytes_resident);
    usage.set_queue_seconds(absl::ToDoubleSeconds(done.usage.queue));
    usage.set_prefill_seconds(absl::ToDoubleSeconds(done.usage.prefill));
    usage.set_ttft_seconds(absl::ToDoubleSeconds(done.usage.first_token));
    usage.set_decode_seconds(absl::ToDoubleSeconds(done.usage.decode));
    usage.set_policy(policy_);
    usage.set_context_tokens(done.usage.context_tokens);
    for (const KeptTokens& layer : done.usage.kept) {
      v1::KeptTokens& kept = *usage.add_kept();
      kept.set_min(layer.min);
      kept.set_mean(layer.mean);
      kept.set_max(layer.max);
    }
    usage.set_eviction_seconds(absl::ToDoubleSeconds(done.usage.eviction));
    usage.set_kv_bytes_freed(done.usage.kv_bytes_freed());
    usage.set_cached_tokens(done.usage.cached_tokens);
    usage.set_preemptions(done.usage.preemptions);
  }
  const bool empty = response_.deltas_size() == 0 && response_.finishes_size() == 0 && !response_.has_usage();
  if (empty || broken_) {
    Finish(ToGrpcStatus(status));
  } else {
    StartWriteAndFinish(&response_, grpc::WriteOptions(), ToGrpcStatus(status));
  }
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
  LogInfo(absl::StrCat("request ", id_, ": ", status.ok() ? "OK" : status.ToString(), "; ", done.usage.prompt_tokens,
                       " prompt + ", done.usage.generated_tokens, " generated tokens; queue ",
                       absl::FormatDuration(absl::Trunc(done.usage.queue, absl::Microseconds(10))), ", first token ",
                       absl::FormatDuration(absl::Trunc(done.usage.first_token, absl::Microseconds(10))), ", total ",
                       absl::FormatDuration(absl::Trunc(total, absl::Microseconds(10)))));
}

void GenerateCall::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      broken_ = true;
      context_.engine->Cancel(ticket_);
    }
  }
  Pump();
}

void GenerateCall::OnCancel() {
  MutexLock lock(&mutex_);
  broken_ = true;
  if (!ended_) context_.engine->Cancel(ticket_);
}

void GenerateCall::Abort(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (ended_) return;
  abort_status_ = status;
  context_.engine->Cancel(ticket_);
}

void GenerateCall::OnDone() {
  // Whoever waits for the registry to be empty may destroy what the call uses: let the call go first.
  CallRegistry* registry = context_.registry;
  const std::string id = id_;
  self_.reset();
  registry->Remove(id);
}

}  // namespace lukv
