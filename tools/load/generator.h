// Sends the requests and gathers what became of them.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "tools/load/call.h"
#include "tools/load/connections.h"
#include "tools/load/options.h"
#include "tools/load/plan.h"
#include "tools/load/record.h"

namespace lukv {

struct LoadRun {
  std::vector<RequestRecord> records;  // In the order of their endings; without the intruder.
  std::optional<RequestRecord> intruder;
  double sending_seconds = 0;  // Until the last request was sent,
  double seconds = 0;          // and until the last one ended.
  int64_t sent = 0;            // Without the intruder.
  int64_t connections_killed = 0;
};

class Generator {
 public:
  Generator(const LoadOptions& options, RequestPlanner planner, std::unique_ptr<Connections> connections);

  // UNAVAILABLE: a connection that was killed could not be made anew.
  absl::StatusOr<LoadRun> Run();
  // Any thread: sends no more and cancels what runs.
  void Stop();
  const RunClock& clock() const { return clock_; }

 private:
  // Sends what is due until the run's end.
  absl::Status SendAll();
  void Send(PlannedRequest plan, double due);
  void OnEnd(LoadCall* call, RequestRecord record);
  bool MoreToSend() const { return options_.requests == 0 || run_.sent < options_.requests; }
  // Whether the loop has something to send now, in a closed loop.
  bool MaySend() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const LoadOptions options_;
  RequestPlanner planner_;
  const std::unique_ptr<Connections> connections_;
  const RunClock clock_;
  LoadRun run_;  // `records` and `intruder` under the mutex while calls run.
  Mutex mutex_;
  std::set<LoadCall*> live_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lukv
