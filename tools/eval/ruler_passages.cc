// Questions about passages: qa_1 and qa_2.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/str_cat.h"
#include "tools/eval/ruler_tasks.h"

namespace lukv {
namespace {

constexpr char kTask[] = "Answer the question from the given documents. Give only the answer and no other words.";

struct Documents {
  std::vector<std::string> needed;
  std::vector<std::string> others;  // In the order in which they are taken; then from the start again.
};

std::string PassageText(const Passage& passage) { return StrCat(passage.title, "\n", passage.text); }

// The question, and what it needs.
Documents Ask(bool two_hop, int32_t index, const EvalText& text, Random order, EvalSample& sample) {
  std::vector<size_t> questions(two_hop ? text.two_hop.size() : text.passages.size());
  std::iota(questions.begin(), questions.end(), size_t{0});
  order.Shuffle(questions);
  const size_t chosen = questions[static_cast<size_t>(index) % questions.size()];
  std::vector<size_t> needed;
  std::string question;
  if (two_hop) {
    question = text.two_hop[chosen].question;
    sample.references = text.two_hop[chosen].answers;
    needed = text.two_hop[chosen].passages;
  } else {
    question = text.passages[chosen].question;
    sample.references = text.passages[chosen].answers;
    needed = {chosen};
  }
  sample.question = StrCat("\n\n", kTask, "\n\nQuestion: ", question);
  sample.answer_prefix = "Answer:";
  sample.metric = Metric::kAnyReference;
  sample.max_new_tokens = 32;
  Documents documents;
  for (size_t i = 0; i < text.passages.size(); ++i) {
    const bool is_needed = std::find(needed.begin(), needed.end(), i) != needed.end();
    (is_needed ? documents.needed : documents.others).push_back(PassageText(text.passages[i]));
  }
  return documents;
}

std::string Context(const Documents& documents, int32_t size, Random random) {
  std::vector<std::string> shown = documents.needed;
  for (size_t i = 0; i < static_cast<size_t>(size); ++i) shown.push_back(documents.others[i % documents.others.size()]);
  random.Shuffle(shown);
  for (size_t i = 0; i < shown.size(); ++i) shown[i] = StrCat("Document ", i + 1, ":\n", shown[i]);
  return StrCat(kTask, "\n\nThe following are given documents.\n\n", absl::StrJoin(shown, "\n\n"));
}

}  // namespace

SampleFamily PassageFamily(bool two_hop, int32_t index, const EvalText& text, Random order, Random random) {
  EvalSample sample;
  Documents documents = Ask(two_hop, index, text, order, sample);
  random.Shuffle(documents.others);
  // Long contexts need more documents than there are passages: the essays' paragraphs, which answer no question.
  std::vector<std::string> more;
  for (const Essay& essay : text.essays) {
    for (const std::string& paragraph : essay.paragraphs) more.push_back(StrCat("On ", essay.title, "\n", paragraph));
  }
  random.Shuffle(more);
  documents.others.insert(documents.others.end(), more.begin(), more.end());
  auto shared = std::make_shared<const Documents>(std::move(documents));
  const auto build = [shared, sample, place = Random(random.Bits())](int32_t size) {
    EvalSample built = sample;
    built.context = Context(*shared, size, place);
    return built;
  };
  return {.min_size = 1, .build = build};
}

}  // namespace lukv
