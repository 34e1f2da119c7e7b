// The figures of a run.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/load/generator.h"
#include "tools/load/options.h"
#include "tools/load/record.h"
#include "tools/load/scraper.h"

namespace lukv {

struct Percentiles {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};
// The value at share `q` of the way through the sorted values, in a straight line between neighbours; 0 of none.
double PercentileOf(std::span<const double> sorted, double q);
Percentiles PercentilesOf(std::vector<double> values);

// Pauses of a stream between its messages. A message that brings several tokens ends one pause.
// Those that ended in [from, to) of the run, in seconds.
std::vector<double> Pauses(const RequestRecord& record, double from, double to);

struct IntruderSummary {
  RequestRecord record;
  double ttft = 0;     // Seconds
  Percentiles before;  // Pauses of the other streams.
  Percentiles during;  // Until its first token.
  double p99_ratio = 0;
  // Others that had no first token yet at some time of the two windows: their prefill counts into the pauses too.
  int64_t others_prefilling = 0;
};

// What the server said of itself; empty without --metrics or where its page does not say.
struct ServerSummary {
  double pages_total = 0;
  double pages_used_peak = 0;
  double pages_used_end = 0;
  double running_peak = 0;
  double waiting_peak = 0;
  std::optional<double> parked_peak;
  std::optional<double> preemptions;
  std::optional<double> cache_query_tokens;
  std::optional<double> cache_hit_tokens;
  std::optional<double> admitted_by_eviction;
  double kv_bytes_freed = 0;
};

struct LoadSummary {
  int64_t sent = 0;
  double seconds = 0;
  std::map<std::string, int64_t> endings;   // By EndingName.
  std::map<std::string, int64_t> refusals;  // By reason.
  std::map<std::string, int64_t> failures;  // By message; at most a few.
  int64_t wrong_tokens = 0;                 // Ended OK with another number of tokens than asked for or reported.
  int64_t connections_killed = 0;
  // Seconds. First tokens of all that had one; pauses of all but readers that pause themselves; whole answers.
  Percentiles ttft;
  Percentiles itl;
  Percentiles e2e;
  double requests_per_s = 0;       // Of those that ended OK, over the whole run,
  double prompt_tokens_per_s = 0;  // their prompts,
  double output_tokens_per_s = 0;  // and all tokens that came.
  // OK, and within the targets that were given; nullopt: none was.
  std::optional<double> good_requests_per_s;
  std::optional<double> good_share;  // Of those sent.
  int64_t cached_requests = 0;       // Some of whose prompt was there already.
  int64_t preempted_requests = 0;
  std::optional<IntruderSummary> intruder;
  std::optional<ServerSummary> server;
};

LoadSummary Summarise(const LoadOptions& options, const LoadRun& run, std::span<const TimedReading> readings);

}  // namespace lukv
