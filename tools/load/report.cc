#include "tools/load/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

using Json = nlohmann::ordered_json;

// 12.3 ms, 4.56 s
std::string Time(double seconds) {
  return seconds < 1 ? absl::StrFormat("%.1f ms", seconds * 1e3) : absl::StrFormat("%.2f s", seconds);
}

std::string Row(const char* name, const Percentiles& p) {
  return absl::StrFormat("%-22s%12s%12s%12s%12s%10d\n", name, Time(p.p50), Time(p.p90), Time(p.p99), Time(p.max),
                         p.count);
}

std::string Counts(const std::map<std::string, int64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    absl::StrAppendFormat(&text, "%s%s %d", text.empty() ? "" : ", ", name, count);
  }
  return text;
}

std::string IntruderText(const IntruderSummary& intruder) {
  std::string text =
      absl::StrFormat("\nIntruder of %d tokens: %s, first token after %s\n", intruder.record.prompt_tokens,
                      EndingName(intruder.record.ending), Time(intruder.ttft));
  text += Row("pauses before it", intruder.before);
  text += Row("pauses beside it", intruder.during);
  absl::StrAppendFormat(&text, "p99 beside / before    %12.2f\n", intruder.p99_ratio);
  if (intruder.others_prefilling > 0) {
    absl::StrAppendFormat(&text, "NOTE: %d other prompts were computed in that time as well\n",
                          intruder.others_prefilling);
  }
  return text;
}

std::string ServerText(const ServerSummary& server) {
  std::string text = absl::StrFormat(
      "\nServer: KV pages used at most %.0f of %.0f (%.0f at the end), running at most %.0f, waiting at most %.0f",
      server.pages_used_peak, server.pages_total, server.pages_used_end, server.running_peak, server.waiting_peak);
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value.has_value()) absl::StrAppendFormat(&text, ", %s %.0f", name, *value);
  };
  add("parked at most", server.parked_peak);
  add("preemptions", server.preemptions);
  add("cached context tokens", server.cache_hit_tokens);
  add("of", server.cache_query_tokens);
  add("admitted thanks to eviction", server.admitted_by_eviction);
  absl::StrAppendFormat(&text, ", KV freed by eviction %.1f MiB\n", server.kv_bytes_freed / (1 << 20));
  return text;
}

Json ToJson(const Percentiles& p) {
  return {{"count", p.count}, {"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}, {"max", p.max}};
}

Json ToJson(const std::optional<double>& value) { return value.has_value() ? Json(*value) : Json(); }

Json ToJson(const ServerSummary& server) {
  return {{"pages_total", server.pages_total},
          {"pages_used_peak", server.pages_used_peak},
          {"pages_used_end", server.pages_used_end},
          {"running_peak", server.running_peak},
          {"waiting_peak", server.waiting_peak},
          {"parked_peak", ToJson(server.parked_peak)},
          {"preemptions", ToJson(server.preemptions)},
          {"cache_query_tokens", ToJson(server.cache_query_tokens)},
          {"cache_hit_tokens", ToJson(server.cache_hit_tokens)},
          {"admitted_by_eviction", ToJson(server.admitted_by_eviction)},
          {"kv_bytes_freed", server.kv_bytes_freed}};
}

Json ToJson(const IntruderSummary& intruder) {
  return {{"prompt_tokens", intruder.record.prompt_tokens},
          {"ending", EndingName(intruder.record.ending)},
          {"at", intruder.record.sent},
          {"ttft", intruder.ttft},
          {"itl_before", ToJson(intruder.before)},
          {"itl_during", ToJson(intruder.during)},
          {"p99_ratio", intruder.p99_ratio},
          {"others_prefilling", intruder.others_prefilling}};
}

Json ToJson(const RequestRecord& record) {
  Json json = {{"index", record.index},
               {"prompt_tokens", record.prompt_tokens},
               {"shared_context", record.shared_context},
               {"priority", record.priority},
               {"due", record.due},
               {"ending", EndingName(record.ending)},
               {"tokens", record.tokens},
               {"e2e", record.ended - record.due}};
  if (!record.messages.empty()) json["ttft"] = record.messages[0] - record.due;
  if (record.ending == Ending::kOk) {
    json["queue"] = record.queue_seconds;
    json["cached_tokens"] = record.cached_tokens;
    json["preemptions"] = record.preemptions;
  } else {
    json["reason"] = record.reason;
  }
  return json;
}

Json OptionsJson(const LoadOptions& options) {
  return {{"server", options.connection.server},
          {"seed", options.seed},
          {"rate", options.rate},
          {"concurrency", options.concurrency},
          {"prompt_tokens", options.prompt.text()},
          {"output_tokens", options.output.text()},
          {"shared_contexts", options.shared_contexts},
          {"shared_share", options.shared_contexts > 0 ? options.shared_share : 0},
          {"policy", options.policy},
          {"cancel_share", options.cancel_share},
          {"deadline_share", options.deadline_share},
          {"slow_readers_share", options.slow_readers_share},
          {"kill_every", absl::ToDoubleSeconds(options.kill_every)}};
}

Json ReadingJson(const TimedReading& timed) {
  const ServerReading& reading = timed.reading;
  return {{"at", timed.seconds},
          {"running", ToJson(reading.running)},
          {"waiting", ToJson(reading.waiting)},
          {"pages_used", ToJson(reading.pages_used)},
          {"pages_contexts", ToJson(reading.pages_contexts)},
          {"generated_tokens", ToJson(reading.generated_tokens)}};
}

}  // namespace

std::vector<std::string> Findings(const LoadSummary& summary, std::span<const BookLine> books) {
  std::vector<std::string> findings;
  for (const auto& [message, count] : summary.failures) {
    findings.push_back(absl::StrFormat("%d requests failed: %s", count, message));
  }
  const auto stuck = summary.endings.find(EndingName(Ending::kStuck));
  if (stuck != summary.endings.end()) findings.push_back(absl::StrFormat("%d requests never ended", stuck->second));
  if (summary.wrong_tokens > 0) {
    findings.push_back(
        absl::StrFormat("%d answers have another number of tokens than they should", summary.wrong_tokens));
  }
  if (summary.intruder.has_value() && summary.intruder->record.ending != Ending::kOk) {
    findings.push_back(absl::StrFormat("the intruder ended with %s", summary.intruder->record.reason));
  }
  for (const BookLine& line : books) {
    if (line.balances()) continue;
    findings.push_back(absl::StrFormat("the books do not balance: %s: %.0f, not in [%.0f, %.0f]", line.name,
                                       line.counted, line.least, line.most));
  }
  return findings;
}

std::string LoadText(const LoadOptions& options, const LoadSummary& summary, std::span<const BookLine> books) {
  const std::string loop = options.rate > 0 ? absl::StrFormat("%g requests/s", options.rate)
                                            : absl::StrFormat("%d in flight", options.concurrency);
  std::string text =
      absl::StrFormat("%d requests in %.1f s (%s; prompts %s, outputs %s): %s\n", summary.sent, summary.seconds, loop,
                      options.prompt.text(), options.output.text(), Counts(summary.endings));
  if (!summary.refusals.empty()) text += StrCat("refused: ", Counts(summary.refusals), "\n");
  if (summary.connections_killed > 0) {
    absl::StrAppendFormat(&text, "connections killed: %d\n", summary.connections_killed);
  }
  absl::StrAppendFormat(&text, "\n%-22s%12s%12s%12s%12s%10s\n", "", "p50", "p90", "p99", "max", "count");
  text += Row("time to first token", summary.ttft);
  text += Row("inter-token", summary.itl);
  text += Row("end to end", summary.e2e);
  absl::StrAppendFormat(&text, "\n%.2f requests/s, %.1f prompt tokens/s, %.1f output tokens/s", summary.requests_per_s,
                        summary.prompt_tokens_per_s, summary.output_tokens_per_s);
  if (summary.good_requests_per_s.has_value()) {
    absl::StrAppendFormat(&text, "; goodput %.2f requests/s (%.1f %% of those sent)", *summary.good_requests_per_s,
                          *summary.good_share * 100);
  }
  text += "\n";
  if (summary.cached_requests > 0 || summary.preempted_requests > 0) {
    absl::StrAppendFormat(&text, "%d requests found some of their prompt in the cache, %d were preempted\n",
                          summary.cached_requests, summary.preempted_requests);
  }
  if (summary.intruder.has_value()) text += IntruderText(*summary.intruder);
  if (summary.server.has_value()) text += ServerText(*summary.server);
  const std::vector<std::string> findings = Findings(summary, books);
  if (findings.empty()) {
    text += StrCat("\nAll requests ended as they should", books.size() > 1 ? ", and the server's counters agree" : "",
                   ".\n");
  }
  for (const std::string& finding : findings) text += StrCat("\nFINDING: ", finding, "\n");
  return text;
}

std::string LoadJson(const LoadOptions& options, const LoadSummary& summary, std::span<const BookLine> books,
                     const LoadRun& run, std::span<const TimedReading> readings) {
  Json json = {{"options", OptionsJson(options)},
               {"sent", summary.sent},
               {"seconds", summary.seconds},
               {"endings", summary.endings},
               {"refusals", summary.refusals},
               {"connections_killed", summary.connections_killed},
               {"ttft", ToJson(summary.ttft)},
               {"itl", ToJson(summary.itl)},
               {"e2e", ToJson(summary.e2e)},
               {"requests_per_s", summary.requests_per_s},
               {"prompt_tokens_per_s", summary.prompt_tokens_per_s},
               {"output_tokens_per_s", summary.output_tokens_per_s},
               {"good_requests_per_s", ToJson(summary.good_requests_per_s)},
               {"good_share", ToJson(summary.good_share)},
               {"cached_requests", summary.cached_requests},
               {"preempted_requests", summary.preempted_requests},
               {"intruder", summary.intruder.has_value() ? ToJson(*summary.intruder) : Json()},
               {"server", summary.server.has_value() ? ToJson(*summary.server) : Json()},
               {"findings", Findings(summary, books)},
               {"books", Json::array()},
               {"readings", Json::array()},
               {"requests", Json::array()}};
  for (const BookLine& line : books) {
    json["books"].push_back(
        {{"name", line.name}, {"least", line.least}, {"most", line.most}, {"counted", line.counted}});
  }
  for (const TimedReading& reading : readings) json["readings"].push_back(ReadingJson(reading));
  std::vector<const RequestRecord*> records;
  for (const RequestRecord& record : run.records) records.push_back(&record);
  std::sort(records.begin(), records.end(), [](const auto* a, const auto* b) { return a->index < b->index; });
  for (const RequestRecord* record : records) json["requests"].push_back(ToJson(*record));
  return json.dump(1);
}

}  // namespace lukv
