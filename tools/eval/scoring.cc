#include "tools/eval/scoring.h"

#include <algorithm>
#include <string>

#include "tools/eval/text_metrics.h"

namespace lukv {
namespace {

double ReferencesIn(const EvalSample& sample, std::string_view answer) {
  const std::string lower = LowerCase(answer);
  size_t found = 0;
  for (const std::string& reference : sample.references) {
    if (lower.find(LowerCase(reference)) != std::string::npos) ++found;
  }
  if (sample.metric == Metric::kAnyReference) return found > 0 ? 1 : 0;
  return static_cast<double>(found) / static_cast<double>(sample.references.size());
}

double OneReference(const EvalSample& sample, std::string_view answer, std::string_view reference) {
  switch (sample.metric) {
    case Metric::kTokenF1:
      return TokenF1(answer, reference);
    case Metric::kRougeL:
      return RougeL(answer, reference);
    case Metric::kClassification:
      return ClassificationScore(answer, reference, sample.classes);
    case Metric::kCount:
      return CountScore(answer, reference);
    case Metric::kRetrieval:
      return RetrievalScore(answer, reference);
    case Metric::kCodeSimilarity:
      return CodeSimilarity(answer, reference);
    case Metric::kAllReferences:
    case Metric::kAnyReference:
      break;
  }
  return 0;
}

bool LooksForReferences(const EvalSample& sample) {
  return sample.metric == Metric::kAllReferences || sample.metric == Metric::kAnyReference;
}

std::string_view WithoutLeadingLines(std::string_view answer) {
  answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  return answer;
}

}  // namespace

double ScoreAnswer(const EvalSample& sample, std::string_view answer) {
  if (sample.first_line_only) {
    answer = WithoutLeadingLines(answer);
    answer = answer.substr(0, answer.find('\n'));
  }
  if (LooksForReferences(sample)) return 100 * ReferencesIn(sample, answer);
  double best = 0;
  for (const std::string& reference : sample.references) {
    best = std::max(best, OneReference(sample, answer, reference));
  }
  return 100 * best;
}

bool ScoreIsFinal(const EvalSample& sample, std::string_view answer) {
  if (LooksForReferences(sample)) return ReferencesIn(sample, answer) == 1;
  return sample.first_line_only && WithoutLeadingLines(answer).find('\n') != std::string_view::npos;
}

}  // namespace lukv
