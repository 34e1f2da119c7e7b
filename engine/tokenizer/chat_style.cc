#include "engine/tokenizer/chat_style.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "engine/tokenizer/template_outline.h"

namespace lukv {
namespace {

using Kind = TemplateStatement::Kind;

// The statements of a template, ticked off as somebody knows what they mean.
class Checklist {
 public:
  explicit Checklist(const std::vector<TemplateStatement>& statements) : open_(statements) {}

  // Whether the statement was there.
  bool Take(Kind kind, std::string_view text) {
    return std::erase_if(open_, [&](const TemplateStatement& s) { return s.kind == kind && s.text == text; }) > 0;
  }
  bool TakePrint(std::string_view text) { return Take(Kind::kPrint, text); }
  void TakeSets(std::initializer_list<std::string_view> texts) {
    for (const std::string_view text : texts) Take(Kind::kSet, text);
  }
  // The first statement that `match` accepts.
  template <typename Match>
  std::optional<TemplateStatement> TakeIf(Match match) {
    const auto it = std::find_if(open_.begin(), open_.end(), match);
    if (it == open_.end()) return std::nullopt;
    TemplateStatement found = *it;
    std::erase(open_, found);
    return found;
  }
  // The literal that is printed and starts like this.
  std::optional<TemplateStatement> TakeLiteral(std::string_view start) {
    return TakeIf([&](const TemplateStatement& s) {
      const auto literal = LiteralText(s.text);
      return s.kind == Kind::kPrint && literal && literal->starts_with(start);
    });
  }
  bool done() const { return open_.empty(); }

 private:
  std::vector<TemplateStatement> open_;
};

std::optional<ChatStyle> RecogniseChatMl(Checklist list) {
  constexpr std::string_view kAssistant = "<|im_start|>assistant\n";
  ChatStyle style;
  const auto generation = list.TakeLiteral(kAssistant);
  if (!generation) return std::nullopt;
  style.generation = *LiteralText(generation->text);
  style.silent_after_assistant = generation->condition.find("messages[-1].role!='assistant'") != std::string::npos;
  const auto system = list.TakeLiteral("<|im_start|>system\n");
  if (system) style.default_system = *LiteralText(system->text);
  if (style.default_system && !style.default_system->ends_with("<|im_end|>\n")) return std::nullopt;

  bool turns = list.TakePrint("'<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>\n'");
  const bool open_turns = list.TakePrint("'<|im_start|>'+message.role+'\n'+message.content");
  const bool ends = list.TakePrint("'<|im_end|>\n'");
  turns = turns || (open_turns && ends);
  const bool qwen_system = list.TakePrint("'<|im_start|>system\n'+messages[0].content+'<|im_end|>\n'");
  // Qwen2.5 prints assistant turns with tool calls in pieces.
  const bool pieces = list.TakePrint("'<|im_start|>'+message.role");
  list.TakePrint("'\n'+message.content");
  // Qwen3 prints what it made of the content.
  const bool content_turns = list.TakePrint("'<|im_start|>'+message.role+'\n'+content");
  turns = list.TakePrint("'<|im_start|>'+message.role+'\n'+content+'<|im_end|>\n'") || turns;
  style.closes_thoughts = list.TakePrint(
      "'<|im_start|>'+message.role+'\n<think>\n'+reasoning_content.strip('\n')+'\n</think>\n\n'+content.lstrip('\n')");
  const bool no_think = list.TakePrint("'<think>\n\n</think>\n\n'");  // Only if the caller turns thinking off.
  list.TakeSets({"add_generation_prompt=false", "content=message.content", "content=''"});
  if (style.closes_thoughts) {
    list.TakeSets(
        {"ns=namespace(multi_step_tool=true,last_query_index=messages|length-1)",
         "index=(messages|length-1)-loop.index0", "ns.multi_step_tool=false", "ns.last_query_index=index",
         "reasoning_content=''", "reasoning_content=message.reasoning_content",
         "reasoning_content=message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')",
         "reasoning_content=content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')",
         "content=message.content.split('</think>')[-1].lstrip('\n')",
         "content=content.split('</think>')[-1].lstrip('\n')"});
  }
  if (!turns || !list.done() || (no_think && !style.closes_thoughts)) return std::nullopt;
  style.family = qwen_system || pieces || content_turns ? ChatFamily::kQwen : ChatFamily::kChatMl;
  return style;
}

std::optional<ChatStyle> RecogniseLlama3(Checklist list) {
  constexpr std::string_view kTurn =
      "'<|start_header_id|>'+message.role+'<|end_header_id|>\n\n'+message.content|trim+'<|eot_id|>'";
  ChatStyle style;
  style.family = ChatFamily::kLlama3;
  const auto generation = list.TakeLiteral("<|start_header_id|>assistant<|end_header_id|>\n\n");
  if (!generation) return std::nullopt;
  style.generation = *LiteralText(generation->text);
  list.TakeSets({"loop_messages=messages", "add_generation_prompt=false"});

  style.dates = list.TakePrint("'<|start_header_id|>system<|end_header_id|>\n\n'");
  if (!style.dates) {
    const bool complete = list.Take(Kind::kSet, "content=" + std::string(kTurn)) &&
                          list.Take(Kind::kSet, "content=bos_token+content") && list.TakePrint("content");
    return complete && list.done() ? std::optional(style) : std::nullopt;
  }
  const bool complete = list.TakePrint("bos_token") && list.TakePrint(kTurn) && list.TakePrint("system_message") &&
                        list.TakePrint("'<|eot_id|>'") && list.TakePrint("'Cutting Knowledge Date: December 2023\n'") &&
                        list.TakePrint("'Today Date: '+date_string+'\n\n'");
  const bool today = list.Take(Kind::kSet, "date_string=strftime_now('%d %b %Y')");
  const auto fixed = list.TakeIf([](const TemplateStatement& s) { return s.text.starts_with("date_string='"); });
  list.TakeSets({"system_message=messages[0].content|trim", "messages=messages[1:]", "system_message=''"});
  if (!complete || !list.done() || (!today && !fixed)) return std::nullopt;
  if (!today) {
    const auto date = LiteralText(std::string_view(fixed->text).substr(std::string_view("date_string=").size()));
    if (!date) return std::nullopt;
    style.date = *date;
  }
  return style;
}

std::optional<ChatStyle> RecogniseLlama2(Checklist list) {
  const bool complete = list.TakePrint("bos_token+'[INST] '+content.strip()+' [/INST]'") &&
                        list.TakePrint("' '+content.strip()+' '+eos_token") &&
                        list.Take(Kind::kSet, "content='<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message.content") &&
                        list.Take(Kind::kSet, "content=message.content");
  // For system messages in the middle, which RenderChat refuses.
  list.TakePrint("'<<SYS>>\n'+content.strip()+'\n<</SYS>>\n\n'");
  list.TakeSets({"loop_messages=messages[1:]", "loop_messages=messages", "system_message=messages[0].content",
                 "system_message=false"});
  if (!complete || !list.done()) return std::nullopt;
  ChatStyle style;
  style.family = ChatFamily::kLlama2;
  return style;
}

// `text` = 'open' + `middle` + 'close', where both literals may be missing.
bool SplitAround(std::string_view text, std::string_view middle, std::string& open, std::string& close) {
  const size_t at = text.find(middle);
  if (at == std::string_view::npos) return false;
  std::string_view before = text.substr(0, at);
  std::string_view after = text.substr(at + middle.size());
  if (before.ends_with('+')) before.remove_suffix(1);
  if (after.starts_with('+')) after.remove_prefix(1);
  const auto read = [](std::string_view part, std::string& literal) {
    if (part.empty()) return true;
    const auto found = LiteralText(part);
    if (found) literal = *found;
    return found.has_value();
  };
  return read(before, open) && read(after, close);
}

std::optional<ChatStyle> RecogniseMistral(Checklist list) {
  ChatStyle style;
  style.family = ChatFamily::kMistral;
  const auto prints = [](std::string_view part) {
    return
        [part](const TemplateStatement& s) { return s.kind == Kind::kPrint && s.text.find(part) != std::string::npos; };
  };
  if (!list.TakePrint("bos_token")) return std::nullopt;

  const auto assistant = list.TakeIf(prints("eos_token"));
  if (!assistant) return std::nullopt;
  style.trims_assistant = assistant->text.find("message.content|trim+eos_token") != std::string::npos;
  if (!SplitAround(assistant->text,
                   style.trims_assistant ? "message.content|trim+eos_token" : "message.content+eos_token",
                   style.assistant_open, style.assistant_close)) {
    return std::nullopt;
  }

  constexpr std::string_view kWithSystem = "system_message+'\n\n'+message.content";
  const auto with_system = list.TakeIf(prints(kWithSystem));
  const auto user = list.TakeIf(prints("[INST]"));
  if (!user || !SplitAround(user->text, "message.content", style.user_open, style.user_close)) return std::nullopt;
  if (with_system) {
    std::string open;
    std::string close;
    const bool alike = SplitAround(with_system->text, kWithSystem, open, close) && open == style.user_open &&
                       close == style.user_close;
    style.system_in_last = with_system->condition.starts_with("loop.last and system_message");
    const bool in_first = with_system->condition.starts_with("loop.first and system_message");
    if (!alike || (!in_first && !*style.system_in_last)) return std::nullopt;
  }
  list.TakeSets({"system_message=messages[0].content", "loop_messages=messages[1:]", "loop_messages=messages",
                 "user_messages=loop_messages|selectattr('role','equalto','user')|list", "ns=namespace()", "ns.index=0",
                 "ns.index=ns.index+1"});
  return list.done() ? std::optional(style) : std::nullopt;
}

}  // namespace

std::optional<ChatStyle> RecogniseChatStyle(std::string_view chat_template) {
  const auto statements = OutlineTemplate(chat_template);
  if (!statements) return std::nullopt;
  for (const auto recognise : {RecogniseChatMl, RecogniseLlama3, RecogniseLlama2, RecogniseMistral}) {
    if (auto style = recognise(Checklist(*statements))) return style;
  }
  return std::nullopt;
}

}  // namespace lukv
