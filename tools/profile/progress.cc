#include "tools/profile/progress.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace lukv {
namespace {

constexpr int kBarWidth = 30;

std::string MinutesAndSeconds(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Milliseconds(500));
  if (seconds < 60) return absl::StrCat(seconds, "s");
  return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
}

}  // namespace

std::string ProgressLine(const ProfileProgress& progress, absl::Duration elapsed, int bar_width) {
  std::string line;
  if (bar_width > 0) {
    const int full = static_cast<int>(int64_t{bar_width} * progress.done / progress.total);
    line = absl::StrCat("[", std::string(static_cast<size_t>(full), '#'),
                        std::string(static_cast<size_t>(bar_width - full), '-'), "] ");
  }
  absl::StrAppend(&line, progress.done, " of ", progress.total, " questions");
  const int32_t measured = progress.done - progress.found;
  if (measured > 0 && progress.done < progress.total) {
    const absl::Duration left = elapsed / measured * (progress.total - progress.done);
    absl::StrAppend(&line, ", ", MinutesAndSeconds(left), " left");
  }
  return line;
}

ProgressPrinter::ProgressPrinter() : terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressPrinter::~ProgressPrinter() {
  if (terminal_ && start_ != absl::InfinitePast()) std::fputc('\n', stderr);
}

void ProgressPrinter::Print(const ProfileProgress& progress) {
  if (start_ == absl::InfinitePast()) {
    start_ = absl::Now();
    if (progress.found > 0) {
      std::fprintf(stderr, "going on with a run that was stopped: %d of %d questions are done\n", progress.found,
                   progress.total);
    }
  }
  const std::string line = ProgressLine(progress, absl::Now() - start_, terminal_ ? kBarWidth : 0);
  if (terminal_) {
    // Clears what a longer line left.
    std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
}

}  // namespace lukv
