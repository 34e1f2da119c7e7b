// How far a long run is, on stderr.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace lukv {

struct Progress {
  int32_t total = 0;
  int32_t done = 0;
  int32_t found = 0;  // Of those done: by an earlier run that did not come to its end.
};

// "[######--------------] 12 of 60 questions, 2m05s left"; without the bar if `bar_width` is 0, and without the time
// as long as there is nothing to tell it from. `elapsed`: since the run began.
std::string ProgressLine(const Progress& progress, const std::string& units, absl::Duration elapsed, int bar_width);

// On a terminal one line that changes, elsewhere a line for each call.
class ProgressPrinter {
 public:
  // `units`: of what is done, "questions".
  explicit ProgressPrinter(std::string units);
  // Ends the line.
  ~ProgressPrinter();
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  // The first call is the run's beginning.
  void Print(const Progress& progress);

 private:
  const std::string units_;
  const bool terminal_;
  absl::Time start_ = absl::InfinitePast();
};

}  // namespace lukv
