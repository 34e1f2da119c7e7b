// How far a profile is, on stderr.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "tools/profile/profiler.h"

namespace lukv {

// "[######--------------] 12 of 60 questions, 2m05s left"; without the bar if `bar_width` is 0, and without the time
// as long as there is nothing to tell it from. `elapsed`: since the first call of the profiler's progress.
std::string ProgressLine(const ProfileProgress& progress, absl::Duration elapsed, int bar_width);

// On a terminal one line that changes, elsewhere a line per question.
class ProgressPrinter {
 public:
  ProgressPrinter();
  // Ends the line.
  ~ProgressPrinter();
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  void Print(const ProfileProgress& progress);

 private:
  const bool terminal_;
  absl::Time start_ = absl::InfinitePast();
};

}  // namespace lukv
