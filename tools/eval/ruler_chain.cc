// Variable tracking.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/str_cat.h"
#include "tools/eval/ruler_tasks.h"

namespace lukv {
namespace {

constexpr int32_t kHops = 4;
constexpr size_t kLetters = 5;
constexpr size_t kExampleLetters = 3;
constexpr int32_t kExampleLines = 3;

struct Chain {
  std::string value;
  std::vector<std::string> variables;  // [kHops + 1]
  std::vector<int32_t> depths;         // [kHops + 1]
};

std::string DrawName(size_t letters, Random& random) {
  std::string name;
  for (size_t i = 0; i < letters; ++i) name += static_cast<char>('A' + random.Below(26));
  return name;
}

// Names that are in no text, in whatever case: an answer is looked for without regard to it.
Chain DrawChain(size_t letters, const std::string& noise, Random& random) {
  Chain chain{.value = StrCat(random.Between(10000, 99999)), .variables = {}, .depths = {}};
  while (chain.variables.size() <= kHops) {
    std::string name = DrawName(letters, random);
    if (absl::AsciiStrToUpper(noise).find(name) != std::string::npos) continue;
    if (std::find(chain.variables.begin(), chain.variables.end(), name) == chain.variables.end()) {
      chain.variables.push_back(std::move(name));
    }
  }
  chain.depths = DrawDepths(kHops + 1, random);
  return chain;
}

std::string Text(const Chain& chain, const std::string& noise, int32_t lines) {
  std::vector<std::string> pieces;
  size_t next = 0;
  const size_t n = static_cast<size_t>(lines);
  for (size_t i = 0; i <= n; ++i) {
    while (next < chain.variables.size() && DepthIndex(chain.depths[next], n) == i) {
      const std::string from = next == 0 ? chain.value : StrCat("VAR ", chain.variables[next - 1]);
      pieces.push_back(StrCat("VAR ", chain.variables[next++], " = ", from));
    }
    if (i < n) pieces.push_back(noise);
  }
  return StrCat("Track the chain of variable assignments that is hidden in the following text.\n\n",
                absl::StrJoin(pieces, "\n"));
}

std::string Question(const Chain& chain) {
  return StrCat("\nQuestion: Find all variables that are assigned the value ", chain.value, " in the text above.");
}

std::string AnswerPrefix(const Chain& chain) {
  return StrCat("Answer: According to the chain of variable assignments in the text above, ", chain.variables.size(),
                " variables are assigned the value ", chain.value, ", they are:");
}

}  // namespace

SampleFamily ChainFamily(const EvalText& text, Random random) {
  // A small one that is solved stands in front, as published: without it the form of the answer is unclear.
  const Chain example = DrawChain(kExampleLetters, text.noise, random);
  const std::string shown = StrCat(Text(example, text.noise, kExampleLines), Question(example), "\n",
                                   AnswerPrefix(example), " ", absl::StrJoin(example.variables, " "), "\n\n\n");
  auto chain = std::make_shared<const Chain>(DrawChain(kLetters, text.noise, random));
  const auto build = [shown, chain, &text](int32_t size) {
    return EvalSample{.context = StrCat(shown, Text(*chain, text.noise, size)),
                      .question = Question(*chain),
                      .answer_prefix = AnswerPrefix(*chain),
                      .references = chain->variables,
                      .max_new_tokens = 30};
  };
  return {.min_size = kHops + 1, .build = build};
}

}  // namespace lukv
