#include "tools/eval/progress.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

constexpr int kBarWidth = 30;
constexpr absl::Duration kBetweenLines = absl::Seconds(15);

std::string MinutesAndSeconds(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Milliseconds(500));
  return seconds < 60 ? StrCat(seconds, "s") : absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
}

}  // namespace

std::string EvalProgressLine(int64_t done, int64_t total, const std::string& now, absl::Duration elapsed,
                             int bar_width) {
  std::string line;
  if (bar_width > 0) {
    const size_t full = static_cast<size_t>(bar_width * done / total);
    line = StrCat("[", std::string(full, '#'), std::string(static_cast<size_t>(bar_width) - full, '-'), "] ");
  }
  line += StrCat(done, " of ", total, " samples");
  if (done > 0 && done < total) line += StrCat(", ", MinutesAndSeconds(elapsed / done * (total - done)), " left");
  return now.empty() ? line : StrCat(line, ": ", now);
}

EvalProgress::EvalProgress() : terminal_(isatty(STDERR_FILENO) == 1), start_(absl::Now()) {}

EvalProgress::~EvalProgress() {
  if (terminal_ && shown_ != absl::InfinitePast()) std::fputc('\n', stderr);
}

void EvalProgress::Show(int64_t done, int64_t total, const std::string& now) {
  const absl::Time time = absl::Now();
  if (!terminal_ && (done < total || shown_done_ == done) && time - shown_ < kBetweenLines) return;
  shown_done_ = done;
  shown_ = time;
  const std::string line = EvalProgressLine(done, total, now, time - start_, terminal_ ? kBarWidth : 0);
  // The escape clears what a longer line left.
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", line.c_str());
  std::fflush(stderr);
}

}  // namespace lukv
