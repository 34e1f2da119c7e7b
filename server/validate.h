// Requests of the API -> what the engine takes. Nothing else makes a ValidRequest out of a message.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/policy.h"
#include "engine/request.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "lukv/v1/inference.pb.h"
#include "server/context_directory.h"
#include "server/grpc_status.h"

namespace lukv {

// What a request is checked against.
struct RequestLimits {
  const Tokenizer* tokenizer = nullptr;
  std::optional<ChatFamily> chat;  // None: conversations are refused with `no_chat_reason`.
  std::string no_chat_reason;
  int32_t max_context = 0;
  int32_t max_samples = 0;
  // A text prompt of more bytes has more than max_context tokens for certain and need not be tokenised to know.
  int64_t max_prompt_bytes = 0;
  Policy default_policy;
  int32_t tail = 128;       // Last tokens of a prompt that are its question, if the request does not say.
  int32_t chat_tail = 512;  // In a conversation the last turn is, up to so many.
  // Engine::MakePlan
  std::function<absl::StatusOr<std::shared_ptr<const EvictionPlan>>(const Policy&, int32_t context_tokens)> make_plan;
};

struct GenerateInput {
  ValidRequest request;           // Without the deadline.
  std::vector<std::string> stop;  // Not empty strings.
  std::string policy;             // Name of the policy that was asked for, or is the default.
  bool show_special = false;      // Special tokens are part of the text that stop strings are looked for in.
};

// Either the value or everything that is wrong with the request.
template <typename T>
using Validated = std::variant<T, std::vector<FieldViolation>>;

// What a CreateContext asks for.
struct ContextInput {
  ValidRequest request;  // Without output.
  std::string context_id;
  std::string policy;
};

// `fallback_id` names a request that brought no request_id. `stored`: what its context_id stands for, if it has one.
Validated<GenerateInput> ValidateGenerate(const v1::GenerateRequest& request, const RequestLimits& limits,
                                          std::string fallback_id, const StoredContext* stored = nullptr);
// `id` names the request, and the context if none was given.
Validated<ContextInput> ValidateCreateContext(const v1::CreateContextRequest& request, const RequestLimits& limits,
                                              const std::string& id);
Validated<std::vector<TokenId>> ValidateTokenize(const v1::TokenizeRequest& request, const RequestLimits& limits);
Validated<std::vector<TokenId>> ValidateDetokenize(const v1::DetokenizeRequest& request, const RequestLimits& limits);

// The bytes of the vocabulary's longest piece times the context: RequestLimits::max_prompt_bytes.
int64_t MaxPromptBytes(const Tokenizer& tokenizer, int32_t max_context);

}  // namespace lukv
