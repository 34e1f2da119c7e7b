// What became of one request.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/load/plan.h"

namespace lukv {

enum class Ending : uint8_t {
  kOk,
  kRefused,    // The server did not take it, and said why.
  kDeadline,   // Its deadline passed, or the server said that it would.
  kCancelled,  // By its client.
  kKilled,     // With its connection.
  kSlow,       // The server gave up a reader that paused.
  kFailed,     // Anything else: a finding.
  kStuck,      // It had not ended when the run's patience did: a finding.
};
// "ok", "refused", ...
const char* EndingName(Ending ending);

struct RequestRecord {
  int64_t index = 0;
  Manner manner = Manner::kSteady;
  int32_t priority = 0;
  int32_t prompt_tokens = 0;  // With the context.
  bool shared_context = false;
  int32_t asked_output = 0;

  // Seconds since the run's start. An open loop's latencies count from `due`: a generator that falls behind must not
  // make the server look better.
  double due = 0;
  double sent = 0;
  std::vector<double> messages;  // When messages with tokens came.
  double ended = 0;
  int32_t tokens = 0;  // That came.

  Ending ending = Ending::kFailed;
  bool answered = false;  // The status is the server's, not one that the client made up.
  std::string reason;     // ErrorInfo's, or the status code's name.
  std::string message;    // Of a failure.
  // Of the usage of those that ended OK.
  int32_t reported_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t preemptions = 0;
  double queue_seconds = 0;
};

}  // namespace lukv
