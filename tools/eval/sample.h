// One question about one long text, with what is needed to judge an answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lukv {

// How an answer is judged; scoring.h has the formulas.
enum class Metric : uint8_t {
  kAllReferences,  // RULER: part of the references that are in the answer.
  kAnyReference,   // RULER's qa: whether one of them is.
  kTokenF1,        // LongBench, from here on: the best over the references.
  kRougeL,
  kClassification,
  kCount,
  kRetrieval,
  kCodeSimilarity,
};

struct EvalSample {
  std::string context;        // What is compressed, without having seen the question.
  std::string question;       // Stands right behind the context.
  std::string answer_prefix;  // What the answer begins with, without white space around it. May be empty.
  std::vector<std::string> references;
  std::vector<std::string> classes;  // All classes there are; kClassification.
  Metric metric = Metric::kAllReferences;
  int32_t max_new_tokens = 0;
  bool first_line_only = false;  // What the answer says after its first line does not count.
  bool never_chat = false;       // A text to continue, whatever the style of the run.
};

}  // namespace lukv
