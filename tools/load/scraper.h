// Looks at the server's metrics page again and again while the run goes on.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "tools/load/call.h"
#include "tools/scrape/server_reading.h"

namespace lukv {

struct TimedReading {
  double seconds = 0;  // Since the run's start.
  ServerReading reading;
};

class Scraper {
 public:
  explicit Scraper(std::string address);
  ~Scraper();
  Scraper(const Scraper&) = delete;
  Scraper& operator=(const Scraper&) = delete;

  // The first reading must work; later ones that do not are left out.
  absl::Status Start(const RunClock& clock);
  // Goes on until the server is idle, at most for a while, so that its counters are at rest. At least two readings.
  absl::StatusOr<std::vector<TimedReading>> Finish();

 private:
  void Loop();
  absl::Status ReadOnce();

  const std::string address_;
  const RunClock* clock_ = nullptr;
  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<TimedReading> readings_;  // The thread's until it has been joined.
  std::thread thread_;
};

}  // namespace lukv
