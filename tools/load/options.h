// What lukv-bench --server is asked to do.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "absl/time/time.h"
#include "base/settings.h"
#include "tools/client/connection.h"
#include "tools/load/lengths.h"

namespace lukv {

struct LoadOptions {
  ConnectionOptions connection;
  std::string metrics;  // host:port of the server's metrics page; "": not looked at.
  uint64_t seed = 1;

  // Arrivals: one of the two.
  double rate = 0;          // Requests per second that arrive by themselves (Poisson); 0: see concurrency.
  int32_t concurrency = 0;  // Requests in flight; as one ends, the next is sent.
  // The run's end: one of the two, or both, whichever comes first.
  int64_t requests = 0;                       // 0: no limit
  absl::Duration duration;                    // Zero: no limit. Requests that run then are waited for.
  absl::Duration drain = absl::Seconds(120);  // For so long; then they are cancelled and count as stuck.
  int32_t connections = 4;

  Lengths prompt = *Lengths::Parse("512");
  Lengths output = *Lengths::Parse("64");
  int32_t shared_contexts = 0;                      // So many contexts that are the same in all their requests.
  double shared_share = 0.5;                        // Share of the requests that ask one of them.
  int32_t question_tokens = 64;                     // After a shared context.
  std::string policy;                               // "": the server's.
  std::map<int32_t, double> priorities = {{0, 1}};  // Priority to weight.

  // Trouble. Shares of the requests, in [0, 1].
  double cancel_share = 0;
  double deadline_share = 0;
  absl::Duration deadline = absl::Seconds(1);
  double slow_readers_share = 0;
  absl::Duration slow_pause = absl::Seconds(1);
  absl::Duration kill_every;  // Zero: never.

  // One long prompt among the others; 0: none.
  int32_t intruder_tokens = 0;
  absl::Duration intruder_at = absl::Seconds(10);
  absl::Duration intruder_before = absl::Seconds(5);

  std::optional<absl::Duration> slo_ttft;
  std::optional<absl::Duration> slo_itl;
  std::string json;  // Files; "": none.
  std::string plot;
};

// Whether lukv-bench is to be a load generator: --server is given.
bool WantsLoad(int argc, const char* const* argv);

std::variant<LoadOptions, ExitRequest> ParseLoadOptions(int argc, const char* const* argv);

}  // namespace lukv
