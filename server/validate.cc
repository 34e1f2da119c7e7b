#include "server/validate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/checker.h"
#include "server/validate_prompt.h"

namespace lukv {
namespace {

constexpr size_t kMaxRequestId = 128;
constexpr int kMaxStops = 64;
constexpr size_t kMaxStopBytes = 1024;
constexpr int kMaxStopIds = 256;
constexpr int kMaxTopLogprobs = 20;
constexpr int32_t kDefaultMaxTokens = 16;
constexpr float kMaxLogitBias = 100.0f;

constexpr int32_t kDefaultTtlSeconds = 600;
constexpr int32_t kMaxTtlSeconds = 7 * 24 * 3600;

// The policy that the request names, else the server's. Both forms of naming go through the one parser.
template <typename Request>
absl::StatusOr<Policy> PolicyOf(const Request& request, const RequestLimits& limits) {
  if (request.eviction_case() == Request::kPolicy) return ParsePolicy(request.policy());
  if (request.eviction_case() != Request::kEvictionPolicy) return limits.default_policy;
  const v1::EvictionPolicy& policy = request.eviction_policy();
  std::string name = absl::StrCat(policy.allocator(), "+", policy.scorer(), "@");
  switch (policy.budget_case()) {
    case v1::EvictionPolicy::kCompressionRatio: {
      char text[32];
      absl::StrAppend(&name, std::string(text, std::to_chars(text, std::end(text), policy.compression_ratio()).ptr));
      break;
    }
    case v1::EvictionPolicy::kTokensPerHead:
      absl::StrAppend(&name, policy.tokens_per_head(), "tokens");
      break;
    case v1::EvictionPolicy::kBytes:
      absl::StrAppend(&name, policy.bytes(), "bytes");
      break;
    case v1::EvictionPolicy::BUDGET_NOT_SET:
      return absl::InvalidArgumentError(
          "policy: there is no budget; allowed is one of compression_ratio, tokens_per_head, bytes");
  }
  // A map of a message has no order of its own.
  const std::map<std::string, std::string> options(policy.options().begin(), policy.options().end());
  if (!options.empty()) absl::StrAppend(&name, ":", absl::StrJoin(options, ",", absl::PairFormatter("=")));
  return ParsePolicy(name);
}

// Input: GenerateInput or ContextInput.
template <typename Request, typename Input>
void Eviction(const Request& request, int32_t context, const RequestLimits& limits, Input& out, Checker& checker) {
  const char* field = request.eviction_case() == Request::kEvictionPolicy ? "eviction_policy" : "policy";
  const absl::StatusOr<Policy> policy = PolicyOf(request, limits);
  if (!policy.ok()) {
    checker.Add(field, std::string(policy.status().message()));
    return;
  }
  out.policy = PolicyName(*policy);
  // Also for a prompt that is all question: whether a policy can be honoured does not depend on it.
  auto plan = limits.make_plan(*policy, std::max(context, 1));
  if (!plan.ok()) {
    checker.Add(field, std::string(plan.status().message()));
  } else if (context > 0) {
    out.request.plan = *std::move(plan);
  }
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
                    Checker::VocabularyRange(tokenizer));
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
  checker.TokenIds(request.stop_token_ids(), "stop_token_ids", tokenizer);
  out.request.stop_ids.assign(request.stop_token_ids().begin(), request.stop_token_ids().end());
}

// Ids go to the log, where they must not make lines of their own.
void Id(const char* field, const std::string& id, Checker& checker) {
  checker.Require(id.size() <= kMaxRequestId && std::all_of(id.begin(), id.end(), absl::ascii_isgraph), field,
                  absl::StrCat(id.size(), " bytes"), absl::StrCat("0 to ", kMaxRequestId, " printable characters"));
}

void Priority(int32_t priority, ValidRequest& out, Checker& checker) {
  out.priority = priority;
  checker.Require(priority >= -kMaxPriority && priority <= kMaxPriority, "priority", absl::StrCat(priority),
                  absl::StrCat("[-", kMaxPriority, ", ", kMaxPriority, "]"));
}

// What is kept of the prompt's context, and what of it others may share.
void ContextUse(const v1::GenerateRequest& request, int32_t context, const RequestLimits& limits,
                const StoredContext* stored, GenerateInput& out, Checker& checker) {
  const bool has_context = request.context_case() != v1::GenerateRequest::CONTEXT_NOT_SET;
  if (has_context && context > 0) out.request.shared_context = SharedContextUse{.n_tokens = context};
  Id("conversation_id", request.conversation_id(), checker);
  out.request.conversation = request.conversation_id();
  if (!request.conversation_id().empty()) {
    checker.Require(!has_context, "conversation_id", "one beside a context", "one or the other");
    checker.Require(out.request.n == 1, "conversation_id", absl::StrCat("one with n = ", out.request.n), "n = 1");
  }
  if (stored == nullptr) {
    Eviction(request, context, limits, out, checker);
    return;
  }
  checker.Require(request.eviction_case() == v1::GenerateRequest::EVICTION_NOT_SET, "policy", "one beside context_id",
                  "none; the context was compressed when it was made");
  out.request.plan = stored->plan;
  out.policy = stored->policy;
}

}  // namespace

Validated<GenerateInput> ValidateGenerate(const v1::GenerateRequest& request, const RequestLimits& limits,
                                          std::string fallback_id, const StoredContext* stored) {
  Checker checker;
  GenerateInput input;
  ValidRequest& out = input.request;
  Id("request_id", request.request_id(), checker);
  out.id = request.request_id().empty() ? std::move(fallback_id) : request.request_id();
  Sampling(request.sampling(), *limits.tokenizer, out.sampling, checker);
  Stops(request, *limits.tokenizer, input, checker);
  Priority(request.priority(), out, checker);
  out.ignore_eos = request.ignore_eos();
  out.logprobs = request.logprobs();
  out.top_logprobs = request.top_logprobs();
  checker.Require(out.top_logprobs >= 0 && out.top_logprobs <= kMaxTopLogprobs, "top_logprobs",
                  absl::StrCat(out.top_logprobs), absl::StrCat("0 to ", kMaxTopLogprobs));
  checker.Require(out.logprobs || out.top_logprobs <= 0, "top_logprobs",
                  absl::StrCat(out.top_logprobs, " without logprobs"), "0 unless logprobs is true");
  // Last: it may be the longest to check.
  PromptTokens prompt = ValidatePrompt(request, limits, stored, checker);
  out.prompt = std::move(prompt.tokens);
  Lengths(request, limits, out, checker);
  ContextUse(request, prompt.context, limits, stored, input, checker);
  if (!checker.ok()) return checker.Take();
  return input;
}

Validated<ContextInput> ValidateCreateContext(const v1::CreateContextRequest& request, const RequestLimits& limits,
                                              const std::string& id) {
  Checker checker;
  ContextInput input;
  ValidRequest& out = input.request;
  Id("context_id", request.context_id(), checker);
  out.id = id;
  input.context_id = request.context_id().empty() ? id : request.context_id();
  Priority(request.priority(), out, checker);
  const int32_t ttl = request.has_ttl_seconds() ? request.ttl_seconds() : kDefaultTtlSeconds;
  checker.Require(ttl >= 1 && ttl <= kMaxTtlSeconds, "ttl_seconds", absl::StrCat(ttl),
                  absl::StrCat("1 to ", kMaxTtlSeconds));
  out.prompt = ValidateContext(request, limits, checker);
  out.max_tokens = 0;
  const auto context = static_cast<int32_t>(out.prompt.size());
  out.shared_context = SharedContextUse{.n_tokens = context, .pinned_until = absl::Now() + absl::Seconds(ttl)};
  Eviction(request, context, limits, input, checker);
  if (!checker.ok()) return checker.Take();
  return input;
}

Validated<std::vector<TokenId>> ValidateTokenize(const v1::TokenizeRequest& request, const RequestLimits& limits) {
  Checker checker;
  std::vector<TokenId> ids;
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText: {
      const bool add_bos = request.has_add_bos() ? request.add_bos() : limits.tokenizer->adds_bos();
      ids = EncodeText("text", request.text(), request.parse_special(), add_bos, limits, checker);
      break;
    }
    case v1::TokenizeRequest::kConversation:
      ids = EncodeConversation(request.conversation(), limits, checker).tokens;
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
  checker.TokenIds(request.token_ids(), "token_ids", *limits.tokenizer);
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
