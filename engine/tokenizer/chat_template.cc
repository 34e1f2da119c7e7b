#include "engine/tokenizer/chat_template.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/tokenizer/chat_style.h"
#include "engine/tokenizer/unicode.h"

namespace lukv {
namespace {

// The first line that says something, for a message.
std::string FirstLine(std::string_view text) {
  text.remove_prefix(LeadingRun(text, IsSpace));
  return Quoted(text.substr(0, text.find('\n')));
}

// Puts segments together: the template's words with parse_special, the messages' without.
class Prompt {
 public:
  Prompt& Words(std::string_view text) { return Add(text, true); }
  Prompt& Content(std::string_view text) { return Add(text, false); }
  std::vector<TextSegment> Take() { return std::move(segments_); }

 private:
  Prompt& Add(std::string_view text, bool parse_special) {
    if (text.empty()) return *this;
    if (segments_.empty() || segments_.back().parse_special != parse_special) {
      segments_.push_back({.text = "", .parse_special = parse_special});
    }
    segments_.back().text += text;
    return *this;
  }

  std::vector<TextSegment> segments_;
};

// Python's str.strip().
std::string_view Strip(std::string_view text) {
  text.remove_prefix(LeadingRun(text, IsPythonSpace));
  text.remove_suffix(TrailingRun(text, IsPythonSpace));
  return text;
}

std::string_view StripLeftNewlines(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  return text;
}

std::string_view StripRightNewlines(std::string_view text) { return text.substr(0, text.find_last_not_of('\n') + 1); }

// Qwen3's view of an assistant turn: what it thought, and what it said after that.
struct Thought {
  std::string_view reasoning;
  std::string_view content;
};
Thought SplitThought(std::string_view content) {
  constexpr std::string_view kOpen = "<think>";
  constexpr std::string_view kClose = "</think>";
  const size_t first = content.find(kClose);
  if (first == std::string_view::npos) return {"", content};
  std::string_view reasoning = StripRightNewlines(content.substr(0, first));
  const size_t open = reasoning.rfind(kOpen);
  if (open != std::string_view::npos) reasoning.remove_prefix(open + kOpen.size());
  return {StripLeftNewlines(reasoning), StripLeftNewlines(content.substr(content.rfind(kClose) + kClose.size()))};
}

// The last user message that is no tool's answer; the last message when there is none.
size_t LastQuery(std::span<const ChatMessage> messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string_view content = messages[i].content;
    const bool answer = content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (messages[i].role == "user" && !answer) return i;
  }
  return messages.size() - 1;
}

void RenderChatMl(const ChatStyle& style, std::span<const ChatMessage> messages, Prompt& prompt) {
  if (style.default_system && messages[0].role != "system") prompt.Words(*style.default_system);
  const size_t last_query = LastQuery(messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    prompt.Words(absl::StrCat("<|im_start|>", message.role, "\n"));
    if (style.closes_thoughts && message.role == "assistant") {
      const Thought thought = SplitThought(message.content);
      const bool shown = i > last_query && (i + 1 == messages.size() || !thought.reasoning.empty());
      if (shown) {
        prompt.Words("<think>\n").Content(StripRightNewlines(thought.reasoning)).Words("\n</think>\n\n");
      }
      prompt.Content(shown ? StripLeftNewlines(thought.content) : thought.content);
    } else {
      prompt.Content(message.content);
    }
    prompt.Words("<|im_end|>\n");
  }
  if (!style.silent_after_assistant || messages.back().role != "assistant") prompt.Words(style.generation);
}

void RenderLlama3(const ChatStyle& style, std::span<const ChatMessage> messages, Prompt& prompt) {
  prompt.Words("<|begin_of_text|>");
  if (style.dates) {
    const std::string date =
        style.date.empty() ? absl::FormatTime("%d %b %Y", absl::Now(), absl::LocalTimeZone()) : style.date;
    prompt.Words("<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n");
    prompt.Words(absl::StrCat("Today Date: ", date, "\n\n"));
    if (messages[0].role == "system") {
      prompt.Content(Strip(messages[0].content));
      messages = messages.subspan(1);
    }
    prompt.Words("<|eot_id|>");
  }
  for (const ChatMessage& message : messages) {
    prompt.Words(absl::StrCat("<|start_header_id|>", message.role, "<|end_header_id|>\n\n"));
    prompt.Content(Strip(message.content)).Words("<|eot_id|>");
  }
  prompt.Words(style.generation);
}

// The system message of Llama 2 and Mistral is part of a user turn, and the others take turns.
struct Dialogue {
  const ChatMessage* system = nullptr;
  std::span<const ChatMessage> turns;
};
absl::StatusOr<Dialogue> SplitDialogue(std::span<const ChatMessage> messages) {
  Dialogue dialogue{.turns = messages};
  if (messages[0].role == "system") {
    dialogue.system = &messages[0];
    dialogue.turns = messages.subspan(1);
  }
  if (dialogue.turns.empty()) return absl::InvalidArgumentError("the chat template needs a user message");
  for (size_t i = 0; i < dialogue.turns.size(); ++i) {
    const char* wanted = i % 2 == 0 ? "user" : "assistant";
    if (dialogue.turns[i].role != wanted) {
      return absl::InvalidArgumentError(absl::StrCat("message ", i + (dialogue.system != nullptr ? 1 : 0),
                                                     " has the role ", Quoted(dialogue.turns[i].role),
                                                     ", but the model's chat template wants user and assistant to ",
                                                     "alternate after an optional system message"));
    }
  }
  return dialogue;
}

absl::Status RenderLlama2(std::span<const ChatMessage> messages, Prompt& prompt) {
  LUKV_ASSIGN_OR_RETURN(const Dialogue dialogue, SplitDialogue(messages));
  for (size_t i = 0; i < dialogue.turns.size(); ++i) {
    const std::string_view content = dialogue.turns[i].content;
    if (i % 2 == 1) {
      prompt.Words(" ").Content(Strip(content)).Words(" </s>");
      continue;
    }
    prompt.Words("<s>[INST] ");
    if (i > 0 || dialogue.system == nullptr) {
      prompt.Content(Strip(content));
    } else {
      // The template strips system and user message as one text: at their seams nothing goes, except that a user
      // message of white space alone takes the seam with it.
      std::string_view user = content;
      user.remove_suffix(TrailingRun(user, IsPythonSpace));
      prompt.Words("<<SYS>>\n").Content(dialogue.system->content);
      prompt.Words(user.empty() ? "\n<</SYS>>" : "\n<</SYS>>\n\n").Content(user);
    }
    prompt.Words(" [/INST]");
  }
  return absl::OkStatus();
}

absl::Status RenderMistral(const ChatStyle& style, std::span<const ChatMessage> messages, Prompt& prompt) {
  LUKV_ASSIGN_OR_RETURN(const Dialogue dialogue, SplitDialogue(messages));
  if (dialogue.system != nullptr && !style.system_in_last) {
    return absl::InvalidArgumentError("the model's chat template has no place for a system message");
  }
  prompt.Words("<s>");
  for (size_t i = 0; i < dialogue.turns.size(); ++i) {
    const std::string_view content = dialogue.turns[i].content;
    if (i % 2 == 1) {
      prompt.Words(style.assistant_open).Content(style.trims_assistant ? Strip(content) : content);
      prompt.Words("</s>" + style.assistant_close);
      continue;
    }
    prompt.Words(style.user_open);
    const bool here = dialogue.system != nullptr && i == (*style.system_in_last ? dialogue.turns.size() - 1 : 0);
    if (here) prompt.Content(dialogue.system->content).Words("\n\n");
    prompt.Content(content).Words(style.user_close);
  }
  return absl::OkStatus();
}

absl::Status CheckMessages(std::span<const ChatMessage> messages) {
  if (messages.empty()) return absl::InvalidArgumentError("there are no chat messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return absl::InvalidArgumentError(
          absl::StrCat("message ", i, " has the role ", Quoted(role), "; allowed are system, user, assistant"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ChatFamily> RecogniseChatTemplate(std::string_view chat_template) {
  if (const auto style = RecogniseChatStyle(chat_template)) return style->family;
  return absl::InvalidArgumentError(absl::StrCat(
      "the model's chat template is not one that lukv knows (ChatML, Llama 2, Llama 3, Mistral, Qwen); it ",
      "starts with ", FirstLine(chat_template)));
}

absl::StatusOr<std::vector<TextSegment>> RenderChat(ChatFamily family, std::string_view model_template,
                                                    std::span<const ChatMessage> messages) {
  LUKV_RETURN_IF_ERROR(CheckMessages(messages));
  const auto style = RecogniseChatStyle(model_template);
  if (!style || style->family != family) {
    return absl::InvalidArgumentError(
        absl::StrCat("the chat template is not of the family asked for; it starts with ", FirstLine(model_template)));
  }
  Prompt prompt;
  switch (family) {
    case ChatFamily::kChatMl:
    case ChatFamily::kQwen:
      RenderChatMl(*style, messages, prompt);
      break;
    case ChatFamily::kLlama3:
      RenderLlama3(*style, messages, prompt);
      break;
    case ChatFamily::kLlama2:
      LUKV_RETURN_IF_ERROR(RenderLlama2(messages, prompt));
      break;
    case ChatFamily::kMistral:
      LUKV_RETURN_IF_ERROR(RenderMistral(*style, messages, prompt));
      break;
  }
  return prompt.Take();
}

}  // namespace lukv
