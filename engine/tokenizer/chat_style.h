// The details in which chat templates of one family differ.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/tokenizer/chat_template.h"

namespace lukv {

// What a template of some family says about its details.
struct ChatStyle {
  ChatFamily family = ChatFamily::kChatMl;
  std::string generation;  // What the assistant's turn starts with.

  // kChatMl, kQwen
  std::optional<std::string> default_system;  // The whole turn, printed when the first message is no system message.
  bool closes_thoughts = false;               // Qwen3: takes the thoughts out of earlier assistant turns.
  bool silent_after_assistant = false;        // Prints no generation prompt when the assistant spoke last.

  // kLlama3: the system turn is always there, with dates in it (Llama 3.1 and later).
  bool dates = false;
  std::string date;  // Empty: today.

  // kMistral
  std::string user_open;
  std::string user_close;
  std::string assistant_open;
  std::string assistant_close;
  bool trims_assistant = false;
  std::optional<bool>
      system_in_last;  // The system message goes into the last (else the first) user turn. None: refused.
};

// nullopt: the template prints or sets something that no family known here does.
std::optional<ChatStyle> RecogniseChatStyle(std::string_view chat_template);

}  // namespace lukv
