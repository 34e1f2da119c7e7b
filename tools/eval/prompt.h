// How a sample becomes tokens: a context, and what follows it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/eval/sample.h"

namespace lukv {

enum class PromptStyle : uint8_t {
  kCompletion,  // A text to continue: context, question, answer prefix.
  kChat,        // Context and question are what the user says; the assistant's turn begins with the answer prefix.
};

struct SampleTokens {
  std::vector<TokenId> context;
  std::vector<TokenId> question;  // With all that follows it, up to where the model goes on.

  size_t size() const { return context.size() + question.size(); }
};

// The tokenizer must outlive it. Safe to use from any thread.
class PromptFormat {
 public:
  // INVALID_ARGUMENT: a chat style, and the model has no chat template that is known.
  static absl::StatusOr<PromptFormat> Make(PromptStyle style, const Tokenizer& tokenizer);

  // The context is tokenized without its question, so that it is the same for every question.
  absl::StatusOr<SampleTokens> Tokenize(const EvalSample& sample) const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }

 private:
  explicit PromptFormat(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  const Tokenizer* tokenizer_;
  std::optional<ChatFamily> family_;  // None: completion.
};

// Takes tokens out of the middle until no more than `max_tokens` are left, as LongBench does: both ends may hold what
// the task is. Context and question count as one text.
void CutMiddle(size_t max_tokens, SampleTokens& tokens);

}  // namespace lukv
