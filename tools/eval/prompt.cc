#include "tools/eval/prompt.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

// Stands between context and question while the template is put around both. It must come through a template that
// trims or joins, and must not be in a text.
constexpr char kSeam[] = "<lukv:seam>";

std::string Completion(const EvalSample& sample) {
  return sample.answer_prefix.empty() ? sample.question : StrCat(sample.question, " ", sample.answer_prefix);
}

// Cuts the rendered prompt at the seam.
absl::StatusOr<std::pair<std::vector<TextSegment>, std::vector<TextSegment>>> Split(std::vector<TextSegment> segments) {
  std::vector<TextSegment> before, after;
  for (TextSegment& segment : segments) {
    if (!after.empty()) {
      after.push_back(std::move(segment));
      continue;
    }
    const size_t seam = segment.text.find(kSeam);
    if (seam == std::string::npos) {
      before.push_back(std::move(segment));
    } else {
      before.push_back({segment.text.substr(0, seam), segment.parse_special});
      after.push_back({segment.text.substr(seam + sizeof(kSeam) - 1), segment.parse_special});
    }
  }
  if (after.empty()) return absl::InternalError("the chat template lost the question");
  return std::pair(std::move(before), std::move(after));
}

}  // namespace

absl::StatusOr<PromptFormat> PromptFormat::Make(PromptStyle style, const Tokenizer& tokenizer) {
  PromptFormat format(tokenizer);
  if (style == PromptStyle::kChat) {
    if (tokenizer.chat_template().empty()) return absl::InvalidArgumentError("the model has no chat template");
    LUKV_ASSIGN_OR_RETURN(format.family_, RecogniseChatTemplate(tokenizer.chat_template()));
  }
  return format;
}

absl::StatusOr<SampleTokens> PromptFormat::Tokenize(const EvalSample& sample) const {
  std::vector<TextSegment> context, question;
  bool add_bos = tokenizer_->adds_bos();
  if (!family_.has_value() || sample.never_chat) {
    context.push_back({sample.context});
    question.push_back({Completion(sample)});
  } else {
    if (sample.context.find(kSeam) != std::string::npos) {
      return absl::InvalidArgumentError(StrCat("a text holds ", kSeam));
    }
    const ChatMessage message{.role = "user", .content = StrCat(sample.context, kSeam, sample.question)};
    LUKV_ASSIGN_OR_RETURN(std::vector<TextSegment> segments,
                          RenderChat(*family_, tokenizer_->chat_template(), {&message, 1}));
    LUKV_ASSIGN_OR_RETURN(std::tie(context, question), Split(std::move(segments)));
    if (!sample.answer_prefix.empty()) question.push_back({sample.answer_prefix});
    add_bos = false;  // The template says it.
  }
  SampleTokens tokens;
  LUKV_ASSIGN_OR_RETURN(tokens.context, tokenizer_->Encode(context, add_bos));
  LUKV_ASSIGN_OR_RETURN(tokens.question, tokenizer_->Encode(question, false));
  return tokens;
}

void CutMiddle(size_t max_tokens, SampleTokens& tokens) {
  if (tokens.size() <= max_tokens) return;
  const size_t cut_begin = (max_tokens + 1) / 2;
  const size_t cut_end = tokens.size() - max_tokens / 2;
  const size_t context = tokens.context.size();
  const auto erase = [](std::vector<TokenId>& ids, size_t begin, size_t end) {
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end));
  };
  if (cut_end > context) erase(tokens.question, std::max(cut_begin, context) - context, cut_end - context);
  if (cut_begin < context) erase(tokens.context, cut_begin, std::min(cut_end, context));
}

}  // namespace lukv
