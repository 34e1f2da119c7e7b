#include "tools/client/generate.h"

#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace lukv {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file.is_open() || file.bad()) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  return text;
}

absl::StatusOr<std::vector<int32_t>> ReadTokenIds(const std::string& path) {
  LUKV_ASSIGN_OR_RETURN(const std::string text, ReadAll(path));
  std::vector<int32_t> ids;
  for (const absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \t\r\n,[]"), absl::SkipEmpty())) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(word, &id)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": \"", word.substr(0, 32), "\" is no token id"));
    }
    ids.push_back(id);
  }
  return ids;
}

// The wire carries only UTF-8, and what is none is refused there without a reason that helps.
absl::Status CheckUtf8(const std::string& text) {
  try {
    Json(text).dump();
    return absl::OkStatus();
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError("the prompt is not UTF-8");
  }
}

absl::Status FillPrompt(const ClientOptions& options, v1::GenerateRequest& request) {
  request.set_parse_special(options.parse_special);
  if (!options.context_file.empty()) {
    LUKV_ASSIGN_OR_RETURN(std::string context, ReadAll(options.context_file));
    LUKV_RETURN_IF_ERROR(CheckUtf8(context));
    request.set_context_text(std::move(context));
  }
  if (!options.token_ids_file.empty()) {
    LUKV_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ReadTokenIds(options.token_ids_file));
    request.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
    return absl::OkStatus();
  }
  if (!options.chat.empty()) {
    LUKV_RETURN_IF_ERROR(CheckUtf8(options.system + options.chat));
    const auto add = [&](const char* role, const std::string& content) {
      v1::ChatMessage& message = *request.mutable_conversation()->add_messages();
      message.set_role(role);
      message.set_content(content);
    };
    if (!options.system.empty()) add("system", options.system);
    add("user", options.chat);
    return absl::OkStatus();
  }
  std::string text = options.prompt;
  if (!options.prompt_file.empty()) {
    LUKV_ASSIGN_OR_RETURN(text, ReadAll(options.prompt_file));
  }
  LUKV_RETURN_IF_ERROR(CheckUtf8(text));
  request.set_text(std::move(text));
  return absl::OkStatus();
}

void FillSampling(const ClientOptions& options, v1::Sampling& sampling) {
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.min_p) sampling.set_min_p(*options.min_p);
  if (options.repetition_penalty) sampling.set_repetition_penalty(*options.repetition_penalty);
  if (options.frequency_penalty) sampling.set_frequency_penalty(*options.frequency_penalty);
  if (options.presence_penalty) sampling.set_presence_penalty(*options.presence_penalty);
  if (options.seed) sampling.set_seed(*options.seed);
}

Json LogprobJson(const v1::TokenLogprob& logprob) {
  // A token may be half a code point: JSON text cannot say that, so the bytes are given, too.
  Json json = {{"token_id", logprob.token_id()}, {"bytes", std::vector<unsigned>()}, {"logprob", logprob.logprob()}};
  for (const char byte : logprob.token()) json["bytes"].push_back(static_cast<unsigned char>(byte));
  for (const v1::TokenLogprob& alternative : logprob.alternatives()) {
    json["alternatives"].push_back(LogprobJson(alternative));
  }
  return json;
}

const char* ReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    default:
      return "unknown";
  }
}

Json SampleJson(const Answer::Sample& sample, bool with_logprobs) {
  Json json = {
      {"text", sample.text}, {"token_ids", sample.token_ids}, {"finish_reason", ReasonName(sample.finish.reason())}};
  if (with_logprobs) {
    json["logprobs"] = Json::array();
    for (const v1::TokenLogprob& logprob : sample.logprobs) json["logprobs"].push_back(LogprobJson(logprob));
  }
  return json;
}

// What eviction did, over the layers.
std::string EvictionSummary(const v1::Usage& usage) {
  double mean = 0;
  int32_t least = std::numeric_limits<int32_t>::max();
  int32_t most = 0;
  for (const v1::KeptTokens& layer : usage.kept()) {
    mean += static_cast<double>(layer.mean()) / usage.kept_size();
    least = std::min(least, layer.min());
    most = std::max(most, layer.max());
  }
  return absl::StrFormat(
      "%s: of %d context tokens a kv head keeps %.0f on average (%d to %d); %.2f MiB freed, chosen in %.3f s",
      usage.policy(), usage.context_tokens(), mean, least, most,
      static_cast<double>(usage.kv_bytes_freed()) / (1 << 20), usage.eviction_seconds());
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> MakeRequest(const ClientOptions& options) {
  v1::GenerateRequest request;
  LUKV_RETURN_IF_ERROR(FillPrompt(options, request));
  FillSampling(options, *request.mutable_sampling());
  request.set_request_id(options.request_id);
  request.set_max_tokens(options.max_tokens);
  request.set_n(options.n);
  if (options.min_tokens) request.set_min_tokens(*options.min_tokens);
  for (const std::string& stop : options.stop) request.add_stop(stop);
  for (const int32_t id : options.stop_ids) request.add_stop_token_ids(id);
  request.set_ignore_eos(options.ignore_eos);
  if (!options.policy.empty()) request.set_policy(options.policy);
  if (options.tail) request.set_tail(*options.tail);
  if (options.logprobs) {
    request.set_logprobs(true);
    request.set_top_logprobs(*options.logprobs);
  }
  return request;
}

grpc::Status Generate(v1::Inference::StubInterface& stub, grpc::ClientContext& context,
                      const v1::GenerateRequest& request, const std::function<void(std::string_view)>& on_text,
                      Answer& answer) {
  answer.samples.resize(static_cast<size_t>(std::max(request.n(), 1)));
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    for (const v1::Delta& delta : response.deltas()) {
      Answer::Sample& sample = answer.samples.at(delta.index());
      sample.text.append(delta.text());
      sample.token_ids.insert(sample.token_ids.end(), delta.token_ids().begin(), delta.token_ids().end());
      sample.logprobs.insert(sample.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
      if (delta.index() == 0 && !delta.text().empty()) on_text(delta.text());
    }
    for (const v1::Finish& finish : response.finishes()) answer.samples.at(finish.index()).finish = finish;
    if (response.has_usage()) answer.usage = response.usage();
  }
  return reader->Finish();
}

std::string ToJson(const Answer& answer, bool with_logprobs) {
  const v1::Usage& usage = answer.usage;
  Json json = SampleJson(answer.samples.at(0), with_logprobs);
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens()},   {"generated_tokens", usage.generated_tokens()},
                   {"kv_bytes_full", usage.kv_bytes_full()},   {"kv_bytes_resident", usage.kv_bytes_resident()},
                   {"kv_bytes_freed", usage.kv_bytes_freed()}, {"policy", usage.policy()},
                   {"context_tokens", usage.context_tokens()}};
  for (const v1::KeptTokens& layer : usage.kept()) {
    json["usage"]["kept"].push_back({{"min", layer.min()}, {"mean", layer.mean()}, {"max", layer.max()}});
  }
  json["timings"] = {{"queue_s", usage.queue_seconds()},
                     {"prefill_s", usage.prefill_seconds()},
                     {"ttft_s", usage.ttft_seconds()},
                     {"decode_s", usage.decode_seconds()},
                     {"eviction_s", usage.eviction_seconds()}};
  if (answer.samples.size() > 1) {
    for (const Answer::Sample& sample : answer.samples) json["samples"].push_back(SampleJson(sample, with_logprobs));
  }
  return json.dump();
}

std::string Summary(const Answer& answer) {
  constexpr double kMiB = 1 << 20;
  const v1::Usage& usage = answer.usage;
  std::string text = absl::StrFormat("prompt %d tokens, generated %d, first token %.3f s", usage.prompt_tokens(),
                                     usage.generated_tokens(), usage.ttft_seconds());
  // The first tokens come with the prefill; the rest took decode_seconds.
  const auto decoded = usage.generated_tokens() - static_cast<int>(answer.samples.size());
  if (decoded > 0 && usage.decode_seconds() > 0) {
    absl::StrAppendFormat(&text, ", %.1f tokens/s", decoded / usage.decode_seconds());
  }
  absl::StrAppendFormat(&text, ", KV %.2f MiB (full cache %.2f MiB)",
                        static_cast<double>(usage.kv_bytes_resident()) / kMiB,
                        static_cast<double>(usage.kv_bytes_full()) / kMiB);
  if (usage.context_tokens() > 0) absl::StrAppend(&text, "\n", EvictionSummary(usage));
  return text;
}

std::string Describe(const grpc::Status& status) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const auto code = static_cast<size_t>(status.error_code());
  std::string text = absl::StrCat(code < std::size(kNames) ? kNames[code] : "UNKNOWN", ": ",
                                  absl::StrReplaceAll(status.error_message(), {{"\n", " "}}));
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return text;
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::BadRequest bad_request;
    if (!any.UnpackTo(&bad_request)) continue;
    for (int i = 1; i < bad_request.field_violations_size(); ++i) {
      const auto& violation = bad_request.field_violations(i);
      absl::StrAppend(&text, "\n  ", violation.field(), ": ", violation.description());
    }
  }
  return text;
}

}  // namespace lukv
