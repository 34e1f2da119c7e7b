#include "tools/load/summary.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lukv {
namespace {

constexpr size_t kMaxFailures = 8;

bool IsGood(const LoadOptions& options, const RequestRecord& record) {
  if (record.ending != Ending::kOk || record.messages.empty()) return false;
  if (options.slo_ttft.has_value() && record.messages[0] - record.due > absl::ToDoubleSeconds(*options.slo_ttft)) {
    return false;
  }
  if (!options.slo_itl.has_value() || record.tokens < 2) return true;
  const double each = (record.messages.back() - record.messages[0]) / (record.tokens - 1);
  return each <= absl::ToDoubleSeconds(*options.slo_itl);
}

void CountEnding(const RequestRecord& record, LoadSummary& summary) {
  ++summary.endings[EndingName(record.ending)];
  if (record.ending == Ending::kRefused) ++summary.refusals[record.reason];
  if (record.ending == Ending::kFailed &&
      (summary.failures.size() < kMaxFailures || summary.failures.contains(record.message))) {
    ++summary.failures[record.message];
  }
  if (record.ending != Ending::kOk) return;
  if (record.tokens != record.asked_output || record.reported_tokens != record.tokens) ++summary.wrong_tokens;
  if (record.cached_tokens > 0) ++summary.cached_requests;
  if (record.preemptions > 0) ++summary.preempted_requests;
}

IntruderSummary SummariseIntruder(const LoadOptions& options, const LoadRun& run) {
  IntruderSummary summary{.record = *run.intruder};
  const double at = run.intruder->sent;
  const double start = at - absl::ToDoubleSeconds(options.intruder_before);
  const double end = run.intruder->messages.empty() ? run.intruder->ended : run.intruder->messages[0];
  summary.ttft = end - at;
  std::vector<double> before, during;
  for (const RequestRecord& record : run.records) {
    if (record.manner == Manner::kSlow) continue;
    const std::vector<double> earlier = Pauses(record, start, at);
    const std::vector<double> later = Pauses(record, at, end);
    before.insert(before.end(), earlier.begin(), earlier.end());
    during.insert(during.end(), later.begin(), later.end());
    const double first = record.messages.empty() ? record.ended : record.messages[0];
    if (record.sent < end && first > start) ++summary.others_prefilling;
  }
  summary.before = PercentilesOf(std::move(before));
  summary.during = PercentilesOf(std::move(during));
  summary.p99_ratio = summary.before.p99 > 0 ? summary.during.p99 / summary.before.p99 : 0;
  return summary;
}

ServerSummary SummariseServer(std::span<const TimedReading> readings) {
  const ServerReading& first = readings.front().reading;
  const ServerReading& last = readings.back().reading;
  ServerSummary summary{
      .pages_total = last.pages_total.value_or(0),
      .pages_used_end = last.pages_used.value_or(0),
      .preemptions = Increase(first.preemptions, last.preemptions),
      .cache_query_tokens = Increase(first.cache_query_tokens, last.cache_query_tokens),
      .cache_hit_tokens = Increase(first.cache_hit_tokens, last.cache_hit_tokens),
      .admitted_by_eviction = Increase(first.admitted_by_eviction, last.admitted_by_eviction),
      .kv_bytes_freed = last.kv_bytes_freed.value_or(0) - first.kv_bytes_freed.value_or(0),
  };
  for (const TimedReading& timed : readings) {
    const ServerReading& reading = timed.reading;
    summary.pages_used_peak = std::max(summary.pages_used_peak, reading.pages_used.value_or(0));
    summary.running_peak = std::max(summary.running_peak, reading.running.value_or(0));
    summary.waiting_peak = std::max(summary.waiting_peak, reading.waiting.value_or(0));
    if (reading.parked.has_value()) summary.parked_peak = std::max(summary.parked_peak.value_or(0), *reading.parked);
  }
  return summary;
}

}  // namespace

double PercentileOf(std::span<const double> sorted, double q) {
  if (sorted.empty()) return 0;
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (sorted[below + 1] - sorted[below]) * (at - static_cast<double>(below));
}

Percentiles PercentilesOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += value;
  const auto count = static_cast<int64_t>(values.size());
  return {.count = count,
          .mean = count > 0 ? sum / static_cast<double>(count) : 0,
          .p50 = PercentileOf(values, 0.5),
          .p90 = PercentileOf(values, 0.9),
          .p99 = PercentileOf(values, 0.99),
          .max = PercentileOf(values, 1)};
}

std::vector<double> Pauses(const RequestRecord& record, double from, double to) {
  std::vector<double> pauses;
  for (size_t i = 1; i < record.messages.size(); ++i) {
    if (record.messages[i] >= from && record.messages[i] < to) {
      pauses.push_back(record.messages[i] - record.messages[i - 1]);
    }
  }
  return pauses;
}

LoadSummary Summarise(const LoadOptions& options, const LoadRun& run, std::span<const TimedReading> readings) {
  LoadSummary summary{.sent = run.sent, .seconds = run.seconds, .connections_killed = run.connections_killed};
  std::vector<double> ttft, itl, e2e;
  double prompt_tokens = 0, output_tokens = 0, good = 0;
  for (const RequestRecord& record : run.records) {
    CountEnding(record, summary);
    output_tokens += record.tokens;
    if (!record.messages.empty()) ttft.push_back(record.messages[0] - record.due);
    if (record.manner != Manner::kSlow) {
      const std::vector<double> pauses = Pauses(record, 0, std::numeric_limits<double>::infinity());
      itl.insert(itl.end(), pauses.begin(), pauses.end());
    }
    if (record.ending != Ending::kOk) continue;
    e2e.push_back(record.ended - record.due);
    prompt_tokens += record.prompt_tokens;
    good += IsGood(options, record) ? 1 : 0;
  }
  if (run.seconds > 0) {
    summary.requests_per_s = static_cast<double>(e2e.size()) / run.seconds;
    summary.prompt_tokens_per_s = prompt_tokens / run.seconds;
    summary.output_tokens_per_s = output_tokens / run.seconds;
    if (options.slo_ttft.has_value() || options.slo_itl.has_value()) {
      summary.good_requests_per_s = good / run.seconds;
      summary.good_share = run.sent > 0 ? good / static_cast<double>(run.sent) : 0;
    }
  }
  summary.ttft = PercentilesOf(std::move(ttft));
  summary.itl = PercentilesOf(std::move(itl));
  summary.e2e = PercentilesOf(std::move(e2e));
  if (run.intruder.has_value()) summary.intruder = SummariseIntruder(options, run);
  if (readings.size() >= 2) summary.server = SummariseServer(readings);
  return summary;
}

}  // namespace lukv
