#include "server/vllm_call.h"

#include <utility>

namespace lukv {
namespace {

namespace pb = vllm::grpc::engine;

void AddLogprob(const TokenEvent& event, pb::OutputLogProbs& out) {
  out.add_token_logprobs(event.logprob);
  out.add_token_ids(static_cast<uint32_t>(event.token));
  pb::TopLogProbs& top = *out.add_top_logprobs();
  for (const TokenLogprob& alternative : event.alternatives) {
    top.add_values(alternative.logprob);
    top.add_token_ids(static_cast<uint32_t>(alternative.token));
  }
}

}  // namespace

pb::GenerateComplete& VllmCall::CompleteOf(int32_t sample) {
  completes_.resize(samples());
  return completes_[sample];
}

pb::GenerateStreamChunk& VllmCall::ChunkOf(int32_t sample) {
  for (pb::GenerateResponse& message : messages_) {
    if (message.chunk().index() == static_cast<uint32_t>(sample)) return *message.mutable_chunk();
  }
  pb::GenerateStreamChunk& chunk = *messages_.emplace_back().mutable_chunk();
  chunk.set_index(static_cast<uint32_t>(sample));
  chunk.set_prompt_tokens(static_cast<uint32_t>(prompt_tokens()));
  return chunk;
}

void VllmCall::WriteToken(const TokenEvent& event, std::string_view /*text*/) {
  const auto token = static_cast<uint32_t>(event.token);
  pb::GenerateComplete& complete = CompleteOf(event.sample);
  complete.set_completion_tokens(complete.completion_tokens() + 1);
  if (!stream_) {
    complete.add_output_ids(token);
    if (logprobs()) AddLogprob(event, *complete.mutable_output_logprobs());
    return;
  }
  pb::GenerateStreamChunk& chunk = ChunkOf(event.sample);
  chunk.add_token_ids(token);
  chunk.set_completion_tokens(complete.completion_tokens());
  if (logprobs()) AddLogprob(event, *chunk.mutable_output_logprobs());
}

void VllmCall::WriteSampleEnd(const SampleEnd& end, std::string_view /*rest*/) {
  pb::GenerateComplete& complete = CompleteOf(end.sample);
  complete.set_finish_reason(end.reason == FinishReason::kStop ? "stop" : "length");
  if (end.stop != nullptr) complete.set_matched_stop_str(*end.stop);
  if (end.stop_token >= 0) complete.set_matched_token_id(static_cast<uint32_t>(end.stop_token));
}

absl::Status VllmCall::WriteEnd(const absl::Status& status, const Usage& usage) {
  // An aborted request ends well, with what it had.
  if (!status.ok() && !absl::IsCancelled(status)) return status;
  completes_.resize(samples());
  for (size_t i = 0; i < completes_.size(); ++i) {
    pb::GenerateComplete& complete = completes_[i];
    complete.set_index(static_cast<uint32_t>(i));
    complete.set_prompt_tokens(static_cast<uint32_t>(prompt_tokens()));
    complete.set_cached_tokens(static_cast<uint32_t>(usage.cached_tokens));
    if (complete.finish_reason().empty()) complete.set_finish_reason("abort");
    *messages_.emplace_back().mutable_complete() = std::move(complete);
  }
  return absl::OkStatus();
}

}  // namespace lukv
