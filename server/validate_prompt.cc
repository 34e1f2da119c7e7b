#include "server/validate_prompt.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace lukv {
namespace {

std::vector<TokenId> Encode(const std::string& field, std::span<const TextSegment> segments, bool add_bos,
                            const RequestLimits& limits, Checker& checker) {
  absl::StatusOr<std::vector<TokenId>> ids = limits.tokenizer->Encode(segments, add_bos);
  if (!ids.ok()) {
    checker.Add(field, std::string(ids.status().message()));
    return {};
  }
  return *std::move(ids);
}

int64_t ConversationBytes(const v1::Conversation& conversation) {
  int64_t bytes = 0;
  for (const v1::ChatMessage& message : conversation.messages())
    bytes += static_cast<int64_t>(message.content().size());
  return bytes;
}

bool Fits(const char* field, int64_t bytes, const RequestLimits& limits, Checker& checker) {
  const bool ok = bytes <= limits.max_prompt_bytes;
  checker.Require(ok, field, absl::StrCat(bytes, " bytes"),
                  absl::StrCat("what fits ", limits.max_context, " tokens of context"));
  return ok;
}

std::vector<TokenId> CheckedText(const char* field, const std::string& text, bool parse_special, bool add_bos,
                                 const RequestLimits& limits, Checker& checker) {
  if (!Fits(field, static_cast<int64_t>(text.size()), limits, checker)) return {};
  checker.Require(!text.empty(), field, "an empty string", "any other");
  return text.empty() ? std::vector<TokenId>() : EncodeText(field, text, parse_special, add_bos, limits, checker);
}

std::vector<TokenId> CheckedIds(const std::string& field, const v1::TokenIds& ids, const RequestLimits& limits,
                                Checker& checker) {
  checker.Require(ids.ids_size() > 0, field, "none", "at least one");
  checker.TokenIds(ids.ids(), field, *limits.tokenizer);
  return {ids.ids().begin(), ids.ids().end()};
}

std::vector<TokenId> Context(const v1::GenerateRequest& request, const RequestLimits& limits,
                             const StoredContext* stored, Checker& checker) {
  switch (request.context_case()) {
    case v1::GenerateRequest::kContextText:
      return CheckedText("context_text", request.context_text(), request.parse_special(), limits.tokenizer->adds_bos(),
                         limits, checker);
    case v1::GenerateRequest::kContextTokenIds:
      return CheckedIds("context_token_ids.ids", request.context_token_ids(), limits, checker);
    case v1::GenerateRequest::kContextId:
      LUKV_CHECK(stored != nullptr);
      return stored->key.tokens;
    case v1::GenerateRequest::CONTEXT_NOT_SET:
      break;
  }
  return {};
}

// How many of the last tokens are the question of a prompt that came without a context.
int32_t Tail(const v1::GenerateRequest& request, const RequestLimits& limits, Checker& checker) {
  if (!request.has_tail()) return limits.tail;
  checker.Require(request.tail() >= 1, "tail", absl::StrCat(request.tail()), "1 or more");
  return request.tail();
}

}  // namespace

std::vector<TokenId> EncodeText(const std::string& field, const std::string& text, bool parse_special, bool add_bos,
                                const RequestLimits& limits, Checker& checker) {
  const TextSegment segment{.text = text, .parse_special = parse_special};
  return Encode(field, {&segment, 1}, add_bos, limits, checker);
}

ConversationTokens EncodeConversation(const v1::Conversation& conversation, const RequestLimits& limits,
                                      Checker& checker) {
  constexpr char kField[] = "conversation.messages";
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
    checker.Add(kField, std::string(segments.status().message()));
    return {};
  }
  ConversationTokens result{.tokens = Encode(kField, *segments, /*add_bos=*/false, limits, checker)};
  // A turn is a message's content with the template's words before it.
  const auto content = std::find_if(segments->rbegin(), segments->rend(),
                                    [](const TextSegment& segment) { return !segment.parse_special; });
  const auto last_content = static_cast<size_t>(segments->rend() - content);  // Its index + 1; 0: none has content.
  if (last_content > 2) {
    const std::span<const TextSegment> before = std::span(*segments).first(last_content - 2);
    const size_t tokens = Encode(kField, before, /*add_bos=*/false, limits, checker).size();
    result.before_last_turn = static_cast<int32_t>(std::min(tokens, result.tokens.size()));
  }
  return result;
}

std::vector<TokenId> ValidateContext(const v1::CreateContextRequest& request, const RequestLimits& limits,
                                     Checker& checker) {
  std::vector<TokenId> tokens;
  const char* field = "";
  switch (request.context_case()) {
    case v1::CreateContextRequest::kContextText:
      field = "context_text";
      tokens = CheckedText(field, request.context_text(), /*parse_special=*/false, limits.tokenizer->adds_bos(), limits,
                           checker);
      break;
    case v1::CreateContextRequest::kContextTokenIds:
      field = "context_token_ids.ids";
      tokens = CheckedIds(field, request.context_token_ids(), limits, checker);
      break;
    case v1::CreateContextRequest::CONTEXT_NOT_SET:
      checker.Add("context", "got none; allowed is one of context_text, context_token_ids");
      return {};
  }
  // A question of one token and an answer of one have to fit behind it.
  checker.Require(static_cast<int64_t>(tokens.size()) + 2 <= limits.max_context, field,
                  absl::StrCat(tokens.size(), " tokens"), absl::StrCat("1 to ", limits.max_context - 2));
  return checker.ok() ? tokens : std::vector<TokenId>();
}

PromptTokens ValidatePrompt(const v1::GenerateRequest& request, const RequestLimits& limits,
                            const StoredContext* stored, Checker& checker) {
  const bool has_context = request.context_case() != v1::GenerateRequest::CONTEXT_NOT_SET;
  std::vector<TokenId> context = Context(request, limits, stored, checker);
  int32_t tail = Tail(request, limits, checker);
  std::vector<TokenId> prompt;
  const char* field = "";
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      field = "text";
      prompt = CheckedText(field, request.text(), request.parse_special(), !has_context && limits.tokenizer->adds_bos(),
                           limits, checker);
      break;
    case v1::GenerateRequest::kTokenIds:
      field = "token_ids.ids";
      prompt = CheckedIds(field, request.token_ids(), limits, checker);
      break;
    case v1::GenerateRequest::kConversation: {
      field = "conversation.messages";
      checker.Require(!has_context, "context", "one beside a conversation",
                      "one beside text or token_ids; the context of a conversation is what was said before");
      if (!Fits(field, ConversationBytes(request.conversation()), limits, checker)) return {};
      ConversationTokens conversation = EncodeConversation(request.conversation(), limits, checker);
      const int32_t turn = static_cast<int32_t>(conversation.tokens.size()) - conversation.before_last_turn;
      tail = std::max(tail, std::min(turn, limits.chat_tail));
      prompt = std::move(conversation.tokens);
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      checker.Add("prompt", "got none; allowed is one of text, token_ids, conversation");
      return {};
  }
  if (!checker.ok()) return {};
  const size_t total = context.size() + prompt.size();
  checker.Require(static_cast<int64_t>(total) < limits.max_context, field,
                  has_context ? absl::StrCat(prompt.size(), " tokens after a context of ", context.size())
                              : absl::StrCat("a prompt of ", total, " tokens"),
                  absl::StrCat(has_context ? "together 1 to " : "1 to ", limits.max_context - 1));
  PromptTokens result{.context = has_context ? static_cast<int32_t>(context.size())
                                             : std::max(0, static_cast<int32_t>(prompt.size()) - tail)};
  result.tokens = std::move(context);
  result.tokens.insert(result.tokens.end(), prompt.begin(), prompt.end());
  return result;
}

}  // namespace lukv
