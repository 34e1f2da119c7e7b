#include "server/validate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace lukv {
namespace {

constexpr size_t kMaxRequestId = 128;
constexpr int kMaxStops = 64;
constexpr size_t kMaxStopBytes = 1024;
constexpr int kMaxStopIds = 256;
constexpr int kMaxTopLogprobs = 20;
constexpr int32_t kDefaultMaxTokens = 16;
constexpr float kMaxLogitBias = 100.0f;

using Violations = std::vector<FieldViolation>;

// Collects violations; each check says what it got and what is allowed.
class Checker {
 public:
  void Require(bool ok, std::string field, const std::string& got, const std::string& allowed) {
    if (!ok) violations_.push_back({std::move(field), absl::StrCat("got ", got, "; allowed is ", allowed)});
  }

  void Add(std::string field, std::string description) {
    violations_.push_back({std::move(field), std::move(description)});
  }

  // An optional float with the default that `value` has. The bounds are closed; NaN is outside of them.
  void Float(const char* field, bool given, float input, float low, float high, const char* allowed, float& value) {
    if (!given) return;
    Require(input >= low && input <= high && std::isfinite(input), field, absl::StrCat(input), allowed);
    value = input;
  }

  bool ok() const { return violations_.empty(); }
  Violations Take() { return std::move(violations_); }

 private:
  Violations violations_;
};

std::string VocabularyRange(const Tokenizer& tokenizer) {
  return absl::StrCat("0 to ", tokenizer.vocabulary() - 1, " (the vocabulary)");
}

// The first id outside of the vocabulary is reported; a list of wrong ids is wrong in one way.
template <typename Ids>
void CheckIds(const Ids& ids, const std::string& field, const Tokenizer& tokenizer, Checker& checker) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < tokenizer.vocabulary()) continue;
    checker.Require(false, absl::StrCat(field, "[", i, "]"), absl::StrCat(ids[i]), VocabularyRange(tokenizer));
    return;
  }
}

std::vector<TokenId> Encode(const std::string& field, const std::vector<TextSegment>& segments, bool add_bos,
                            const RequestLimits& limits, Checker& checker) {
  absl::StatusOr<std::vector<TokenId>> ids = limits.tokenizer->Encode(segments, add_bos);
  if (!ids.ok()) {
    checker.Add(field, std::string(ids.status().message()));
    return {};
  }
  return *std::move(ids);
}

std::vector<TokenId> EncodeText(const std::string& text, bool parse_special, bool add_bos, const RequestLimits& limits,
                                Checker& checker) {
  return Encode("text", {TextSegment{.text = text, .parse_special = parse_special}}, add_bos, limits, checker);
}

std::vector<TokenId> EncodeConversation(const v1::Conversation& conversation, const RequestLimits& limits,
                                        Checker& checker) {
  if (!limits.chat.has_value()) {
    checker.Add("conversation", limits.no_chat_reason);
    return {};
  }
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : conversation.messages()) {
    messages.push_back({.role = message.role(), .content = message.content()});
  }
  absl::StatusOr<std::vector<TextSegment>> segments =
      RenderChat(*limits.chat, limits.tokenizer->chat_template(), messages);
  if (!segments.ok()) {
    checker.Add("conversation.messages", std::string(segments.status().message()));
    return {};
  }
  return Encode("conversation.messages", *segments, /*add_bos=*/false, limits, checker);
}

int64_t ConversationBytes(const v1::Conversation& conversation) {
  int64_t bytes = 0;
  for (const v1::ChatMessage& message : conversation.messages())
    bytes += static_cast<int64_t>(message.content().size());
  return bytes;
}

// Empty if something is wrong with the prompt, which is then reported.
std::vector<TokenId> Prompt(const v1::GenerateRequest& request, const RequestLimits& limits, Checker& checker) {
  const auto fits = [&](const char* field, int64_t bytes) {
    const bool ok = bytes <= limits.max_prompt_bytes;
    checker.Require(ok, field, absl::StrCat(bytes, " bytes"),
                    absl::StrCat("what fits ", limits.max_context, " tokens of context"));
    return ok;
  };
  std::vector<TokenId> prompt;
  const char* field = "";
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      field = "text";
      if (!fits(field, static_cast<int64_t>(request.text().size()))) return {};
      checker.Require(!request.text().empty(), field, "an empty string", "any other");
      if (request.text().empty()) return {};
      prompt = EncodeText(request.text(), request.parse_special(), limits.tokenizer->adds_bos(), limits, checker);
      break;
    case v1::GenerateRequest::kTokenIds:
      field = "token_ids.ids";
      checker.Require(request.token_ids().ids_size() > 0, field, "none", "at least one");
      CheckIds(request.token_ids().ids(), field, *limits.tokenizer, checker);
      prompt.assign(request.token_ids().ids().begin(), request.token_ids().ids().end());
      break;
    case v1::GenerateRequest::kConversation:
      field = "conversation.messages";
      if (!fits(field, ConversationBytes(request.conversation()))) return {};
      prompt = EncodeConversation(request.conversation(), limits, checker);
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      checker.Add("prompt", "got none; allowed is one of text, token_ids, conversation");
      return {};
  }
  checker.Require(static_cast<int64_t>(prompt.size()) < limits.max_context, field,
                  absl::StrCat("a prompt of ", prompt.size(), " tokens"),
                  absl::StrCat("1 to ", limits.max_context - 1));
  return prompt;
}

void Lengths(const v1::GenerateRequest& request, const RequestLimits& limits, ValidRequest& out, Checker& checker) {
  const auto prompt = static_cast<int32_t>(std::min<size_t>(out.prompt.size(), limits.max_context));
  const int32_t left = limits.max_context - prompt;
  out.max_tokens = std::min(kDefaultMaxTokens, left);
  if (request.has_max_tokens()) {
    out.max_tokens = request.max_tokens();
    checker.Require(out.max_tokens >= 1 && out.max_tokens <= left, "max_tokens",
                    absl::StrCat(out.max_tokens, " after a prompt of ", prompt, " tokens"),
                    absl::StrCat("1 to ", left, " (the context is ", limits.max_context, " tokens)"));
  }
  if (request.has_min_tokens()) {
    out.min_tokens = request.min_tokens();
    checker.Require(out.min_tokens >= 0 && out.min_tokens <= out.max_tokens, "min_tokens", absl::StrCat(out.min_tokens),
                    absl::StrCat("0 to max_tokens (", out.max_tokens, ")"));
  }
  if (request.has_n()) {
    out.n = request.n();
    checker.Require(out.n >= 1 && out.n <= limits.max_samples, "n", absl::StrCat(out.n),
                    absl::StrCat("1 to ", limits.max_samples));
  }
}

void Sampling(const v1::Sampling& sampling, const Tokenizer& tokenizer, SamplingParams& out, Checker& checker) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kTiny = std::numeric_limits<float>::min();
  checker.Float("sampling.temperature", sampling.has_temperature(), sampling.temperature(), 0, kMax,
                "0 (greedy) or more", out.temperature);
  checker.Float("sampling.top_p", sampling.has_top_p(), sampling.top_p(), kTiny, 1, "(0, 1]", out.top_p);
  checker.Float("sampling.min_p", sampling.has_min_p(), sampling.min_p(), 0, 1, "[0, 1]", out.min_p);
  checker.Float("sampling.repetition_penalty", sampling.has_repetition_penalty(), sampling.repetition_penalty(), kTiny,
                kMax, "more than 0", out.repetition_penalty);
  checker.Float("sampling.frequency_penalty", sampling.has_frequency_penalty(), sampling.frequency_penalty(), -2, 2,
                "[-2, 2]", out.frequency_penalty);
  checker.Float("sampling.presence_penalty", sampling.has_presence_penalty(), sampling.presence_penalty(), -2, 2,
                "[-2, 2]", out.presence_penalty);
  if (sampling.has_top_k()) {
    out.top_k = sampling.top_k();
    checker.Require(out.top_k >= 0, "sampling.top_k", absl::StrCat(out.top_k), "0 (no limit) or more");
  }
  for (const auto& [id, bias] : sampling.logit_bias()) {
    const std::string field = absl::StrCat("sampling.logit_bias[", id, "]");
    checker.Require(id >= 0 && id < tokenizer.vocabulary(), field, absl::StrCat("token ", id),
                    VocabularyRange(tokenizer));
    checker.Require(std::abs(bias) <= kMaxLogitBias, field, absl::StrCat(bias), "[-100, 100]");
    out.logit_bias[id] = bias;
  }
  if (sampling.has_seed()) {
    out.seed = sampling.seed();
  } else {
    std::random_device device;
    out.seed = (uint64_t{device()} << 32) | device();
  }
}

void Stops(const v1::GenerateRequest& request, const Tokenizer& tokenizer, GenerateInput& out, Checker& checker) {
  checker.Require(request.stop_size() <= kMaxStops, "stop", absl::StrCat(request.stop_size(), " strings"),
                  absl::StrCat("0 to ", kMaxStops));
  for (int i = 0; i < std::min(request.stop_size(), kMaxStops); ++i) {
    const std::string& stop = request.stop(i);
    checker.Require(!stop.empty() && stop.size() <= kMaxStopBytes, absl::StrCat("stop[", i, "]"),
                    absl::StrCat(stop.size(), " bytes"), absl::StrCat("1 to ", kMaxStopBytes));
    out.stop.push_back(stop);
  }
  checker.Require(request.stop_token_ids_size() <= kMaxStopIds, "stop_token_ids",
                  absl::StrCat(request.stop_token_ids_size(), " ids"), absl::StrCat("0 to ", kMaxStopIds));
  CheckIds(request.stop_token_ids(), "stop_token_ids", tokenizer, checker);
  out.request.stop_ids.assign(request.stop_token_ids().begin(), request.stop_token_ids().end());
}

}  // namespace

Validated<GenerateInput> ValidateGenerate(const v1::GenerateRequest& request, const RequestLimits& limits,
                                          std::string fallback_id) {
  Checker checker;
  GenerateInput input;
  ValidRequest& out = input.request;
  // It goes to the log, where it must not make lines of its own.
  const std::string& id = request.request_id();
  checker.Require(id.size() <= kMaxRequestId && std::all_of(id.begin(), id.end(), absl::ascii_isgraph), "request_id",
                  absl::StrCat(id.size(), " bytes"), absl::StrCat("0 to ", kMaxRequestId, " printable characters"));
  out.id = request.request_id().empty() ? std::move(fallback_id) : request.request_id();
  Sampling(request.sampling(), *limits.tokenizer, out.sampling, checker);
  Stops(request, *limits.tokenizer, input, checker);
  out.ignore_eos = request.ignore_eos();
  out.logprobs = request.logprobs();
  out.top_logprobs = request.top_logprobs();
  checker.Require(out.top_logprobs >= 0 && out.top_logprobs <= kMaxTopLogprobs, "top_logprobs",
                  absl::StrCat(out.top_logprobs), absl::StrCat("0 to ", kMaxTopLogprobs));
  checker.Require(out.logprobs || out.top_logprobs <= 0, "top_logprobs",
                  absl::StrCat(out.top_logprobs, " without logprobs"), "0 unless logprobs is true");
  // Last: it may be the longest to check.
  out.prompt = Prompt(request, limits, checker);
  Lengths(request, limits, out, checker);
  if (!checker.ok()) return checker.Take();
  return input;
}

Validated<std::vector<TokenId>> ValidateTokenize(const v1::TokenizeRequest& request, const RequestLimits& limits) {
  Checker checker;
  std::vector<TokenId> ids;
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText: {
      const bool add_bos = request.has_add_bos() ? request.add_bos() : limits.tokenizer->adds_bos();
      ids = EncodeText(request.text(), request.parse_special(), add_bos, limits, checker);
      break;
    }
    case v1::TokenizeRequest::kConversation:
      ids = EncodeConversation(request.conversation(), limits, checker);
      break;
    case v1::TokenizeRequest::INPUT_NOT_SET:
      checker.Add("input", "got none; allowed is one of text, conversation");
      break;
  }
  if (!checker.ok()) return checker.Take();
  return ids;
}

Validated<std::vector<TokenId>> ValidateDetokenize(const v1::DetokenizeRequest& request, const RequestLimits& limits) {
  Checker checker;
  CheckIds(request.token_ids(), "token_ids", *limits.tokenizer, checker);
  if (!checker.ok()) return checker.Take();
  return std::vector<TokenId>(request.token_ids().begin(), request.token_ids().end());
}

int64_t MaxPromptBytes(const Tokenizer& tokenizer, int32_t max_context) {
  size_t longest = 1;
  for (TokenId id = 0; id < tokenizer.vocabulary(); ++id) {
    longest = std::max(longest, tokenizer.Piece(id, /*special=*/true).size());
  }
  return static_cast<int64_t>(longest) * max_context;
}

}  // namespace lukv
