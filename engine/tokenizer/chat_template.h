// Renders chat messages for the template families that lukv knows. A model's Jinja text is recognised, not interpreted.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer.h"

namespace lukv {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

enum class ChatFamily { kChatMl, kLlama3, kLlama2, kMistral, kQwen };

// INVALID_ARGUMENT with the template's first line when it is none of the known families.
absl::StatusOr<ChatFamily> RecogniseChatTemplate(std::string_view chat_template);

// The prompt up to the point where the assistant speaks: the template's own words with parse_special, the messages'
// contents without. It says itself whether a BOS belongs in front (encode with add_bos = false).
// INVALID_ARGUMENT: an unknown role, roles in an order that the family forbids, no messages.
// `model_template` is consulted for details inside a family (default system prompts).
absl::StatusOr<std::vector<TextSegment>> RenderChat(ChatFamily family, std::string_view model_template,
                                                    std::span<const ChatMessage> messages);

}  // namespace lukv
