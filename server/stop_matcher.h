// Finds stop strings in text that arrives in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace lukv {

class StopMatcher {
 public:
  struct Result {
    std::string text;      // May be shown now: free of stop strings, and nothing later can make it part of one.
    int32_t matched = -1;  // Index of the stop string that was found; -1: none. Nothing follows a match.
  };

  // `stops` must outlive the matcher. REQUIRES: none is empty.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // The match that is complete first wins, of several that end there the longest: how the text is cut into pieces makes
  // no difference. What may be the start of a stop string is held back.
  // REQUIRES: no match so far.
  Result Push(std::string_view text);

  // What is held back, at the end of the text.
  std::string Finish();

 private:
  const std::vector<std::string>& stops_;
  std::string held_;  // A proper prefix of some stop string, or empty.
};

}  // namespace lukv
