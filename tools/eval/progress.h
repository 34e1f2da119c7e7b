// How far an evaluation is, on stderr.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace lukv {

// "[######--------------] 12 of 60 samples, 2m05s left: vt at 3000"; without the bar if `bar_width` is 0.
std::string EvalProgressLine(int64_t done, int64_t total, const std::string& now, absl::Duration elapsed,
                             int bar_width);

// On a terminal one line that changes, elsewhere a line now and then.
class EvalProgress {
 public:
  EvalProgress();
  // Ends the line.
  ~EvalProgress();
  EvalProgress(const EvalProgress&) = delete;
  EvalProgress& operator=(const EvalProgress&) = delete;

  // `now` is what comes next.
  void Show(int64_t done, int64_t total, const std::string& now);

 private:
  const bool terminal_;
  const absl::Time start_;
  absl::Time shown_ = absl::InfinitePast();
  int64_t shown_done_ = -1;
};

}  // namespace lukv
