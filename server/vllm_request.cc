#include "server/vllm_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lukv/v1/inference.pb.h"
#include "server/checker.h"

namespace lukv {
namespace {

namespace pb = vllm::grpc::engine;

// What is too large for lukv.v1's type is too large for every limit, too.
int32_t Clamped(uint32_t value) {
  return static_cast<int32_t>(std::min<uint32_t>(value, std::numeric_limits<int32_t>::max()));
}

// The fields of lukv.v1 by the names that the caller knows.
std::string FieldOf(std::string_view field) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kPrefixes = {
      {{"sampling.", "sampling_params."},
       {"token_ids.ids", "tokenized.input_ids"},
       {"top_logprobs", "sampling_params.logprobs"},
       {"prompt", "input"},
       {"policy", "eviction policy"}}};
  for (const auto& [ours, theirs] : kPrefixes) {
    if (field.starts_with(ours)) return std::string(theirs) + std::string(field.substr(ours.size()));
  }
  const bool same = field == "request_id" || field == "text";
  return same ? std::string(field) : "sampling_params." + std::string(field);
}

void Sampling(const pb::SamplingParams& params, const Tokenizer& tokenizer, v1::Sampling& out) {
  if (params.has_temperature()) out.set_temperature(params.temperature());
  if (params.top_p() != 0) out.set_top_p(params.top_p());
  // As many as the vocabulary has are no limit.
  out.set_top_k(std::min(Clamped(params.top_k()), tokenizer.vocabulary()));
  out.set_min_p(params.min_p());
  out.set_frequency_penalty(params.frequency_penalty());
  out.set_presence_penalty(params.presence_penalty());
  if (params.repetition_penalty() != 0) out.set_repetition_penalty(params.repetition_penalty());
  out.mutable_logit_bias()->insert(params.logit_bias().begin(), params.logit_bias().end());
  if (params.has_seed() && params.seed() != -1) out.set_seed(static_cast<uint64_t>(int64_t{params.seed()}));
}

void Lengths(const pb::SamplingParams& params, const RequestLimits& limits, v1::GenerateRequest& out) {
  if (params.has_max_tokens()) {
    out.set_max_tokens(Clamped(params.max_tokens()));
  } else if (const int64_t left = int64_t{limits.max_context} - out.token_ids().ids_size(); left >= 1) {
    out.set_max_tokens(static_cast<int32_t>(left));
  }
  out.set_min_tokens(Clamped(params.min_tokens()));
  if (params.n() != 0) out.set_n(Clamped(params.n()));
}

// Always as ids: only they say how much of the context is left.
void Prompt(const pb::GenerateRequest& request, const RequestLimits& limits, v1::GenerateRequest& out,
            Checker& checker) {
  if (request.has_tokenized()) {
    auto& ids = *out.mutable_token_ids()->mutable_ids();
    ids.Reserve(request.tokenized().input_ids_size());
    for (const uint32_t id : request.tokenized().input_ids()) ids.Add(Clamped(id));
  } else if (request.has_text()) {
    const auto bytes = static_cast<int64_t>(request.text().size());
    checker.Require(bytes >= 1 && bytes <= limits.max_prompt_bytes, "text", absl::StrCat(bytes, " bytes"),
                    absl::StrCat("what fits ", limits.max_context, " tokens of context, and is not empty"));
    if (!checker.ok()) return;
    v1::TokenizeRequest text;
    text.set_text(request.text());
    text.set_parse_special(true);  // It is a whole prompt, as a chat template makes it.
    auto ids = ValidateTokenize(text, limits);
    if (auto* violations = std::get_if<std::vector<FieldViolation>>(&ids)) {
      for (FieldViolation& violation : *violations) checker.Add(violation.field, violation.description);
      return;
    }
    const auto& tokens = std::get<std::vector<TokenId>>(ids);
    out.mutable_token_ids()->mutable_ids()->Assign(tokens.begin(), tokens.end());
  }
}

}  // namespace

absl::Status CheckSupported(const pb::GenerateRequest& request) {
  const pb::SamplingParams& params = request.sampling_params();
  const bool constraint = params.constraint_case() != pb::SamplingParams::CONSTRAINT_NOT_SET;
  const bool no_constraint = params.constraint_case() == pb::SamplingParams::kJsonObject && !params.json_object();
  const std::pair<bool, const char*> wanted[] = {
      {constraint && !no_constraint, "sampling_params.constraint (structured output)"},
      {params.has_prompt_logprobs(), "sampling_params.prompt_logprobs"},
      {params.has_logprobs() && params.logprobs() == -1, "sampling_params.logprobs of -1 (all)"},
      {params.has_truncate_prompt_tokens(), "sampling_params.truncate_prompt_tokens"},
      {request.has_mm_inputs(), "mm_inputs"},
      {request.extra_mm_inputs_size() > 0, "extra_mm_inputs"},
      {request.has_media_refs(), "media_refs"},
      {request.has_kv_transfer_params(), "kv_transfer_params"},
      {request.has_kv_transfer_params_json(), "kv_transfer_params_json"},
      {request.has_data_parallel_rank() && request.data_parallel_rank() != 0, "data_parallel_rank other than 0"}};
  std::vector<const char*> unsupported;
  for (const auto& [asked, name] : wanted) {
    if (asked) unsupported.push_back(name);
  }
  if (unsupported.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("not supported: ", absl::StrJoin(unsupported, ", ")));
}

Validated<GenerateInput> ValidateVllmGenerate(const pb::GenerateRequest& request, const RequestLimits& limits,
                                              std::string fallback_id) {
  const pb::SamplingParams& params = request.sampling_params();
  Checker checker;
  v1::GenerateRequest out;
  out.set_request_id(request.request_id());
  Prompt(request, limits, out, checker);
  if (!checker.ok()) return checker.Take();
  Sampling(params, *limits.tokenizer, *out.mutable_sampling());
  Lengths(params, limits, out);
  out.mutable_stop()->CopyFrom(params.stop());
  for (const uint32_t id : params.stop_token_ids()) out.add_stop_token_ids(Clamped(id));
  out.set_ignore_eos(params.ignore_eos());
  out.set_logprobs(params.has_logprobs());
  out.set_top_logprobs(params.logprobs());

  auto result = ValidateGenerate(out, limits, std::move(fallback_id));
  if (auto* violations = std::get_if<std::vector<FieldViolation>>(&result)) {
    for (FieldViolation& violation : *violations) violation.field = FieldOf(violation.field);
  } else {
    std::get<GenerateInput>(result).show_special = !params.skip_special_tokens();
  }
  return result;
}

}  // namespace lukv
