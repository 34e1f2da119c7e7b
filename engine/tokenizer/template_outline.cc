#include "engine/tokenizer/template_outline.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

namespace lukv {
namespace {

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

struct Token {
  enum class Kind { kWord, kLiteral, kSign };
  Kind kind;
  std::string text;

  bool IsSign(std::string_view sign) const { return kind == Kind::kSign && text == sign; }
};

// Reads a quoted literal that starts at code[position]; false when it does not end.
bool ReadLiteral(std::string_view code, size_t& position, std::string& text) {
  const char quote = code[position++];
  while (position < code.size() && code[position] != quote) {
    char c = code[position++];
    if (c == '\\') {
      if (position == code.size()) return false;
      c = code[position++];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
      if (c == 'r') c = '\r';
    }
    text += c;
  }
  return position++ < code.size();
}

std::optional<std::vector<Token>> Tokenize(std::string_view code) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < code.size();) {
    if (std::isspace(static_cast<unsigned char>(code[i]))) {
      ++i;
    } else if (code[i] == '\'' || code[i] == '"') {
      Token token{Token::Kind::kLiteral, ""};
      if (!ReadLiteral(code, i, token.text)) return std::nullopt;
      tokens.push_back(std::move(token));
    } else if (IsWord(code[i])) {
      const size_t start = i;
      while (i < code.size() && IsWord(code[i])) ++i;
      tokens.push_back({Token::Kind::kWord, std::string(code.substr(start, i - start))});
    } else {
      tokens.push_back({Token::Kind::kSign, std::string(1, code[i++])});
    }
  }
  return tokens;
}

// x [ 'y' ] -> x . y and 'a' + 'b' -> 'ab'.
std::vector<Token> Simplify(const std::vector<Token>& tokens) {
  std::vector<Token> simple;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool subscript = tokens[i].IsSign("[") && i + 2 < tokens.size() && tokens[i + 2].IsSign("]") &&
                           tokens[i + 1].kind == Token::Kind::kLiteral && !simple.empty() &&
                           (simple.back().kind == Token::Kind::kWord || simple.back().IsSign("]"));
    if (subscript) {
      simple.push_back({Token::Kind::kSign, "."});
      simple.push_back({Token::Kind::kWord, tokens[i + 1].text});
      i += 2;
      continue;
    }
    const size_t n = simple.size();
    const bool sum = tokens[i].kind == Token::Kind::kLiteral && n >= 2 && simple[n - 1].IsSign("+") &&
                     simple[n - 2].kind == Token::Kind::kLiteral;
    if (sum) {
      simple.pop_back();
      simple.back().text += tokens[i].text;
      continue;
    }
    simple.push_back(tokens[i]);
  }
  return simple;
}

std::optional<std::string> Canonical(std::string_view code) {
  const auto tokens = Tokenize(code);
  if (!tokens) return std::nullopt;
  std::string text;
  bool word_before = false;
  for (const Token& token : Simplify(*tokens)) {
    const bool word = token.kind == Token::Kind::kWord;
    if (word && word_before) text += ' ';
    text += token.kind == Token::Kind::kLiteral ? "'" + token.text + "'" : token.text;
    word_before = word;
  }
  return text;
}

// Whether messages without tool calls make `condition` false: all that it joins by "or" is.
bool IsDeadCondition(std::string_view condition) {
  static constexpr std::string_view kStarts[] = {"tools",
                                                 "builtin_tools",
                                                 "custom_tools",
                                                 "tools_in_user_message",
                                                 "message.tool_calls",
                                                 "'tool_calls'in",
                                                 "message.role=='tool'",
                                                 "tool_call",
                                                 "message.role=='ipython'",
                                                 "message.role=='tool_results'",
                                                 "false==true"};
  while (!condition.empty()) {
    // The canonical spelling has a space beside a word only where another word is.
    size_t end = 0;
    size_t next = condition.size();
    for (; end < condition.size(); ++end) {
      const bool joins = condition.substr(end).starts_with("or") && end > 0 && !IsWord(condition[end - 1]) &&
                         end + 2 < condition.size() && !IsWord(condition[end + 2]);
      if (!joins) continue;
      next = end + 2;
      break;
    }
    std::string_view part = condition.substr(0, end);
    part.remove_prefix(std::min(part.find_first_not_of(" ("), part.size()));
    const bool dead = std::any_of(std::begin(kStarts), std::end(kStarts),
                                  [&](std::string_view start) { return part.starts_with(start); });
    if (!dead) return false;
    condition.remove_prefix(next);
  }
  return true;
}

class Outliner {
 public:
  explicit Outliner(std::string_view source) : rest_(source) {
    if (rest_.ends_with('\n')) rest_.remove_suffix(1);  // As Jinja does.
  }

  std::optional<std::vector<TemplateStatement>> Run() {
    while (!rest_.empty()) {
      if (!Step()) return std::nullopt;
    }
    if (!blocks_.empty()) return std::nullopt;
    return std::move(statements_);
  }

 private:
  struct Block {
    bool is_if = false;
    std::string condition;
    bool dead = false;
  };

  // Text up to the next tag, and that tag.
  bool Step() {
    size_t start = rest_.find('{');
    while (start != std::string_view::npos && start + 1 < rest_.size() && rest_[start + 1] != '{' &&
           rest_[start + 1] != '%' && rest_[start + 1] != '#') {
      start = rest_.find('{', start + 1);
    }
    if (start == std::string_view::npos || start + 1 >= rest_.size()) {
      Text(rest_, '\0', false);
      rest_ = {};
      return true;
    }
    const char kind = rest_[start + 1];
    const std::string_view close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    const std::string_view body = rest_.substr(start + 2);
    const size_t end = FindClose(body, close, kind != '#');
    if (end == std::string_view::npos) return false;
    std::string_view code = body.substr(0, end);
    const bool trims_before = code.starts_with('-');
    const bool trims_after = code.ends_with('-');
    Text(rest_.substr(0, start), kind, trims_before);
    if (trims_before) code.remove_prefix(1);
    if (trims_after && !code.empty()) code.remove_suffix(1);
    tag_before_ = kind;
    trimmed_before_ = trims_after;
    rest_ = body.substr(end + 2);
    if (kind == '{') return Print(code);
    return kind == '#' || Statement(code);
  }

  // Where `close` is, outside of literals.
  static size_t FindClose(std::string_view body, std::string_view close, bool has_literals) {
    for (size_t i = 0; i + 1 < body.size(); ++i) {
      if (body.substr(i, 2) == close) return i;
      if (!has_literals || (body[i] != '\'' && body[i] != '"')) continue;
      std::string ignored;
      if (!ReadLiteral(body, i, ignored)) return std::string_view::npos;
      --i;
    }
    return std::string_view::npos;
  }

  // Text between tags, less what "-", trim_blocks and lstrip_blocks take away (`transformers` turns both on).
  void Text(std::string_view text, char tag_after, bool trims) {
    constexpr std::string_view kSpace = " \t\r\n";
    if (trimmed_before_) {
      text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
    } else if ((tag_before_ == '%' || tag_before_ == '#') && text.starts_with('\n')) {
      text.remove_prefix(1);
    }
    if (trims) {
      text = text.substr(0, text.find_last_not_of(kSpace) + 1);
    } else if (tag_after == '%' || tag_after == '#') {
      const size_t line = text.find_last_not_of(" \t") + 1;
      if (line == 0 || text[line - 1] == '\n') text = text.substr(0, line);
    }
    if (!text.empty()) Add(TemplateStatement::Kind::kPrint, "'" + std::string(text) + "'");
  }

  bool Print(std::string_view code) {
    const auto text = Canonical(code);
    if (!text) return false;
    if (!text->starts_with("raise_exception(")) Add(TemplateStatement::Kind::kPrint, *text);
    return true;
  }

  bool Statement(std::string_view code) {
    const auto canonical = Canonical(code);
    if (!canonical) return false;
    const std::string_view text = *canonical;
    const size_t space = std::min(text.find_first_of(" ('"), text.size());
    const std::string_view word = text.substr(0, space);
    const std::string_view rest = text.substr(space + (space < text.size() && text[space] == ' ' ? 1 : 0));
    if (word == "if") {
      blocks_.push_back({true, std::string(rest), IsDeadCondition(rest)});
    } else if (word == "for") {
      // "for x in tools"
      const size_t in = rest.find(" in ");
      if (in == std::string_view::npos) return false;
      blocks_.push_back({false, "", IsDeadCondition(rest.substr(in + 4))});
    } else if (word == "elif" || word == "else") {
      if (blocks_.empty() || !blocks_.back().is_if) return false;
      blocks_.back() = {true, std::string(rest), word == "elif" && IsDeadCondition(rest)};
    } else if (word == "endif" || word == "endfor") {
      if (blocks_.empty() || blocks_.back().is_if != (word == "endif")) return false;
      blocks_.pop_back();
    } else if (word == "set") {
      const std::string_view name = rest.substr(0, rest.find('='));
      if (name.find("tool") == std::string_view::npos) Add(TemplateStatement::Kind::kSet, std::string(rest));
    } else {
      return false;
    }
    return true;
  }

  void Add(TemplateStatement::Kind kind, std::string text) {
    std::string condition;
    for (const Block& block : blocks_) {
      if (block.dead) return;
      if (block.is_if) condition = block.condition;
    }
    statements_.push_back({kind, std::move(text), std::move(condition)});
  }

  std::string_view rest_;
  char tag_before_ = '\0';  // '{', '%' or '#'
  bool trimmed_before_ = false;
  std::vector<Block> blocks_;
  std::vector<TemplateStatement> statements_;
};

}  // namespace

std::optional<std::vector<TemplateStatement>> OutlineTemplate(std::string_view chat_template) {
  return Outliner(chat_template).Run();
}

std::optional<std::string_view> LiteralText(std::string_view text) {
  const bool quoted = text.size() >= 2 && text.starts_with('\'') && text.ends_with('\'');
  if (!quoted || text.find("'+") != std::string_view::npos) return std::nullopt;
  return text.substr(1, text.size() - 2);
}

}  // namespace lukv
