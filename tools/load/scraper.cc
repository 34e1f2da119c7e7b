#include "tools/load/scraper.h"

#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "tools/scrape/fetch.h"

namespace lukv {
namespace {

constexpr absl::Duration kInterval = absl::Milliseconds(250);
constexpr absl::Duration kPatience = absl::Seconds(30);

}  // namespace

Scraper::Scraper(std::string address) : address_(std::move(address)) {}

Scraper::~Scraper() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
}

absl::Status Scraper::ReadOnce() {
  LUKV_ASSIGN_OR_RETURN(const std::string page, FetchMetrics(address_));
  readings_.push_back({.seconds = clock_->Now(), .reading = ReadServer(MetricsPage(page), absl::Now())});
  return absl::OkStatus();
}

absl::Status Scraper::Start(const RunClock& clock) {
  clock_ = &clock;
  LUKV_RETURN_IF_ERROR(ReadOnce());
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

void Scraper::Loop() {
  const auto stopped = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_; };
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (mutex_.AwaitWithDeadline(stopped, absl::Now() + kInterval)) return;
    }
    ReadOnce().IgnoreError();  // A busy server may be late; the next reading says more.
  }
}

absl::StatusOr<std::vector<TimedReading>> Scraper::Finish() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  thread_.join();
  const absl::Time deadline = absl::Now() + kPatience;
  while (true) {
    LUKV_RETURN_IF_ERROR(ReadOnce());
    const ServerReading& last = readings_.back().reading;
    if (last.running.value_or(0) + last.waiting.value_or(0) == 0 || absl::Now() > deadline) break;
    absl::SleepFor(kInterval);
  }
  return std::move(readings_);
}

}  // namespace lukv
