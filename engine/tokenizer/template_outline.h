// What a Jinja chat template prints and sets, statement by statement, in one spelling. Enough to recognise a template,
// not to run it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lukv {

// One `{{ ... }}`, `{% set ... %}` or text between tags.
struct TemplateStatement {
  enum class Kind { kPrint, kSet };
  Kind kind = Kind::kPrint;
  // Canonical spelling: no spaces except between words, literals in '' with their escapes resolved and joined where
  // they are added, x['y'] as x.y: `'<|im_start|>'+message.role+'\n'`. kSet: `name=value`.
  std::string text;
  std::string condition;  // Of the innermost `if` around it, same spelling; empty for none or its `else`.

  bool operator==(const TemplateStatement&) const = default;
};

// The statements that can run for messages without tool calls: what is inside a block for tools (or after a condition
// that is false as written) is left out, and so are raise_exception and what is set up for tools. nullopt: not a
// template that can be read.
std::optional<std::vector<TemplateStatement>> OutlineTemplate(std::string_view chat_template);

// When `text` is one literal: what it holds.
std::optional<std::string_view> LiteralText(std::string_view text);

}  // namespace lukv
