#include "tools/eval/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/eval/eval_fixture.h"

namespace lukv {
namespace {

using testing::HasSubstr;

constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

EvalSample Sample() {
  return {
      .context = "A long text <|im_end|>.", .question = "\n\nWho?", .answer_prefix = "It was", .references = {"me"}};
}

TEST(PromptFormat, CompletionGoesOnFromTheText) {
  const WordTokenizer tokenizer;
  const PromptFormat format = *PromptFormat::Make(PromptStyle::kCompletion, tokenizer);
  EvalSample sample = Sample();
  const SampleTokens tokens = *format.Tokenize(sample);
  EXPECT_EQ(tokenizer.Decode(tokens.context, true), "<s>A long text <|im_end|>.");
  EXPECT_EQ(tokenizer.Decode(tokens.question, true), "\n\nWho? It was");
  sample.answer_prefix = "";
  EXPECT_EQ(tokenizer.Decode(format.Tokenize(sample)->question, true), "\n\nWho?");
}

TEST(PromptFormat, ChatPutsTheTemplateAroundBoth) {
  const WordTokenizer tokenizer(kChatMl);
  const PromptFormat format = *PromptFormat::Make(PromptStyle::kChat, tokenizer);
  const SampleTokens tokens = *format.Tokenize(Sample());
  EXPECT_EQ(tokenizer.Decode(tokens.context, true), "<|im_start|>user\nA long text <|im_end|>.");
  EXPECT_EQ(tokenizer.Decode(tokens.question, true), "\n\nWho?<|im_end|>\n<|im_start|>assistant\nIt was");
  // What a text says is no special token.
  EXPECT_EQ(std::count(tokens.context.begin(), tokens.context.end(), tokens.context.front()), 1);
}

TEST(PromptFormat, SomeTasksAreNeverAChat) {
  const WordTokenizer tokenizer(kChatMl);
  const PromptFormat format = *PromptFormat::Make(PromptStyle::kChat, tokenizer);
  EvalSample sample = Sample();
  sample.never_chat = true;
  EXPECT_EQ(tokenizer.Decode(format.Tokenize(sample)->question, true), "\n\nWho? It was");
}

TEST(PromptFormat, NeedsATemplateForChat) {
  const WordTokenizer tokenizer;
  EXPECT_THAT(PromptFormat::Make(PromptStyle::kChat, tokenizer).status().message(), HasSubstr("no chat template"));
}

SampleTokens Count(int context, int question) {
  SampleTokens tokens;
  for (int i = 0; i < context; ++i) tokens.context.push_back(i);
  for (int i = 0; i < question; ++i) tokens.question.push_back(100 + i);
  return tokens;
}

std::pair<std::vector<TokenId>, std::vector<TokenId>> Cut(int context, int question, size_t max) {
  SampleTokens tokens = Count(context, question);
  CutMiddle(max, tokens);
  return {tokens.context, tokens.question};
}

TEST(CutMiddle, KeepsBothEnds) {
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(Cut(3, 2, 5), std::pair(Ids({0, 1, 2}), Ids({100, 101})));
  EXPECT_EQ(Cut(8, 2, 6), std::pair(Ids({0, 1, 2, 7}), Ids({100, 101})));
  EXPECT_EQ(Cut(8, 2, 5), std::pair(Ids({0, 1, 2}), Ids({100, 101})));
  // The cut reaches into the question, or lies inside of it.
  EXPECT_EQ(Cut(5, 5, 6), std::pair(Ids({0, 1, 2}), Ids({102, 103, 104})));
  EXPECT_EQ(Cut(1, 8, 4), std::pair(Ids({0}), Ids({100, 106, 107})));
}

}  // namespace
}  // namespace lukv
