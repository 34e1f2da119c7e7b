// The texts that evaluation samples are made of: tools/eval/data.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lukv {

// A short article and a question that it answers in one place.
struct Passage {
  std::string title;
  std::string text;
  std::string question;
  std::vector<std::string> answers;  // Any of them is right.
};

// A question that needs two passages: the first names what the second tells about.
struct TwoHopQuestion {
  std::string question;
  std::vector<std::string> answers;
  std::vector<size_t> passages;  // Indices.
};

struct Essay {
  std::string title;  // The file's name.
  std::vector<std::string> paragraphs;
};

// Immutable.
struct EvalText {
  std::vector<Essay> essays;
  std::vector<std::string> essay_sentences;  // Of all essays in order.
  std::vector<size_t> essay_starts;          // Each essay's first sentence.
  std::string noise;                         // A few sentences that say nothing.
  std::vector<std::string> adjectives;
  std::vector<std::string> nouns;
  std::vector<Passage> passages;
  std::vector<TwoHopQuestion> two_hop;
  std::string chronicle;  // One long story whose end needs its beginning; for nll.
};

// NOT_FOUND or INVALID_ARGUMENT with the file at fault.
absl::StatusOr<EvalText> LoadEvalText(const std::string& folder);

// Cut behind '.', '?' or '!' with white space after it; white space inside becomes single spaces.
std::vector<std::string> SplitSentences(std::string_view text);

// The whole file, up to 256 MiB.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace lukv
