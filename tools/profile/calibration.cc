#include "tools/profile/calibration.h"

#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/mapped_file.h"

namespace lukv {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 20;

absl::StatusOr<std::vector<TokenId>> Encode(const Tokenizer& tokenizer, std::string text, bool add_bos) {
  const TextSegment segment{.text = std::move(text)};
  return tokenizer.Encode({&segment, 1}, add_bos);
}

}  // namespace

std::string QuestionText(std::string_view line) {
  const size_t tab = line.find('\t');
  if (tab == std::string_view::npos) return StrCat("\n\nQuestion: ", line, "\nAnswer:");
  return StrCat("\n\nQuestion: ", line.substr(0, tab), "\nAnswer: ", line.substr(tab + 1));
}

absl::StatusOr<ProfileText> LoadText(const Tokenizer& tokenizer, const std::string& context_path,
                                     const std::string& questions_path) {
  ProfileText text{.name = std::filesystem::path(context_path).filename().string()};
  LUKV_ASSIGN_OR_RETURN(std::string context, ReadWholeFile(context_path, kMaxTextBytes));
  // The line break at a file's end is the editor's, and the question brings its own.
  absl::StripTrailingAsciiWhitespace(&context);
  if (context.empty()) return absl::InvalidArgumentError(absl::StrCat(context_path, ": there is no text"));
  auto tokens = Encode(tokenizer, std::move(context), tokenizer.adds_bos());
  if (!tokens.ok()) return Prefixed(tokens.status(), context_path);
  text.context = *std::move(tokens);

  LUKV_ASSIGN_OR_RETURN(const std::string lines, ReadWholeFile(questions_path, kMaxTextBytes));
  const std::vector<std::string> questions = absl::StrSplit(lines, '\n');
  for (std::string question : questions) {
    absl::StripAsciiWhitespace(&question);
    if (question.empty()) continue;
    auto question_tokens = Encode(tokenizer, QuestionText(question), /*add_bos=*/false);
    if (!question_tokens.ok()) return Prefixed(question_tokens.status(), questions_path);
    text.questions.push_back(*std::move(question_tokens));
  }
  if (text.questions.empty()) return absl::InvalidArgumentError(absl::StrCat(questions_path, ": there is no question"));
  return text;
}

}  // namespace lukv
