#include "server/inference_call.h"

#include "server/kept_tokens.h"

namespace lukv {

v1::GenerateResponse& InferenceCall::OpenMessage() {
  return messages_.empty() ? messages_.emplace_back() : messages_.back();
}

v1::Delta& InferenceCall::DeltaOf(int32_t sample) {
  v1::GenerateResponse& response = OpenMessage();
  for (v1::Delta& delta : *response.mutable_deltas()) {
    if (delta.index() == sample) return delta;
  }
  v1::Delta& delta = *response.add_deltas();
  delta.set_index(sample);
  return delta;
}

void InferenceCall::FillLogprob(const TokenLogprob& logprob, v1::TokenLogprob& out) const {
  out.set_token_id(logprob.token);
  out.set_token(context().tokenizer->Piece(logprob.token, /*special=*/true));
  out.set_logprob(logprob.logprob);
}

void InferenceCall::WriteToken(const TokenEvent& event, std::string_view text) {
  v1::Delta& delta = DeltaOf(event.sample);
  delta.mutable_text()->append(text);
  delta.add_token_ids(event.token);
  if (!logprobs()) return;
  v1::TokenLogprob& out = *delta.add_logprobs();
  FillLogprob({.token = event.token, .logprob = event.logprob}, out);
  for (const TokenLogprob& alternative : event.alternatives) FillLogprob(alternative, *out.add_alternatives());
}

void InferenceCall::WriteSampleEnd(const SampleEnd& end, std::string_view rest) {
  if (!rest.empty()) DeltaOf(end.sample).mutable_text()->append(rest);
  v1::Finish& finish = *OpenMessage().add_finishes();
  finish.set_index(end.sample);
  finish.set_reason(end.reason == FinishReason::kStop ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
  if (end.stop != nullptr) finish.set_stop(*end.stop);
  if (end.stop_token >= 0) finish.set_token_id(end.stop_token);
}

absl::Status InferenceCall::WriteEnd(const absl::Status& status, const Usage& usage) {
  if (!status.ok()) return status;
  v1::Usage& out = *OpenMessage().mutable_usage();
  out.set_prompt_tokens(usage.prompt_tokens);
  out.set_generated_tokens(usage.generated_tokens);
  out.set_kv_bytes_full(usage.kv_bytes_full);
  out.set_kv_bytes_resident(usage.kv_bytes_resident);
  out.set_queue_seconds(absl::ToDoubleSeconds(usage.queue));
  out.set_prefill_seconds(absl::ToDoubleSeconds(usage.prefill));
  out.set_ttft_seconds(absl::ToDoubleSeconds(usage.first_token));
  out.set_decode_seconds(absl::ToDoubleSeconds(usage.decode));
  out.set_policy(policy());
  out.set_context_tokens(usage.context_tokens);
  AddKept(usage.kept, out);
  out.set_eviction_seconds(absl::ToDoubleSeconds(usage.eviction));
  out.set_kv_bytes_freed(usage.kv_bytes_freed());
  out.set_cached_tokens(usage.cached_tokens);
  out.set_preemptions(usage.preemptions);
  return status;
}

}  // namespace lukv
