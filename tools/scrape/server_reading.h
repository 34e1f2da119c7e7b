// What the tools want to know of a server's metrics page, by name in one place.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "tools/scrape/metrics_page.h"

namespace lukv {

// What a page does not have stays empty.
struct ServerReading {
  absl::Time at;
  // Gauges.
  std::optional<double> running;
  std::optional<double> waiting;
  std::optional<double> parked;
  std::optional<double> pages_used;
  std::optional<double> pages_total;
  std::optional<double> contexts;
  std::optional<double> pages_contexts;  // Of pages_used: held by contexts that are kept for later requests.
  std::optional<double> pages_reclaimable;
  std::optional<double> kv_bytes_full;  // Of the running sequences.
  std::optional<double> kv_bytes_resident;
  // Counters.
  std::optional<double> prompt_tokens;
  std::optional<double> generated_tokens;
  std::optional<double> preemptions;
  std::optional<double> cache_query_tokens;
  std::optional<double> cache_hit_tokens;
  std::optional<double> admitted_by_eviction;
  std::optional<double> kv_bytes_freed;
  std::map<std::string, double> ended;    // Samples by stop, length, abort, error.
  std::map<std::string, double> refused;  // Requests by reason.
  HistogramReading ttft;                  // Seconds.
  HistogramReading itl;
};

ServerReading ReadServer(const MetricsPage& page, absl::Time at);

// after - before, for counters that both have.
std::optional<double> Increase(const std::optional<double>& before, const std::optional<double>& after);
// By key; a key that `before` lacks counts as zero there. Only those that moved.
std::map<std::string, double> Increase(const std::map<std::string, double>& before,
                                       const std::map<std::string, double>& after);

}  // namespace lukv
