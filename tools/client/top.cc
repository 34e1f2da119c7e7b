#include "tools/client/top.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/settings.h"
#include "base/status_macros.h"
#include "tools/scrape/fetch.h"

namespace lukv {
namespace {

constexpr double kMiB = 1 << 20;
constexpr int kBarWidth = 30;
// What is not on the page.
constexpr char kUnknown[] = "-";

std::string Number(const std::optional<double>& value) {
  return value.has_value() ? absl::StrFormat("%.0f", *value) : kUnknown;
}

std::string Rate(const std::optional<double>& increase, double seconds) {
  return increase.has_value() && seconds > 0 ? absl::StrFormat("%.1f", *increase / seconds) : kUnknown;
}

std::string Bar(double share) {
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * kBarWidth));
  return absl::StrFormat("[%s%s]", std::string(full, '#'), std::string(kBarWidth - full, '-'));
}

std::string Pages(const ServerReading& now) {
  std::string text = absl::StrFormat("%s of %s", Number(now.pages_used), Number(now.pages_total));
  const double total = now.pages_total.value_or(0);
  if (now.pages_used.has_value() && total > 0) {
    const double share = *now.pages_used / total;
    absl::StrAppendFormat(&text, "  %s %.1f %%", Bar(share), 100 * share);
  }
  return text;
}

std::string Kept(const ServerReading& now) {
  if (!now.kv_bytes_full.has_value() || !now.kv_bytes_resident.has_value()) return kUnknown;
  const double freed = std::max(0.0, *now.kv_bytes_full - *now.kv_bytes_resident);
  return absl::StrFormat("%.1f MiB held, %.1f MiB with a full cache: %.1f MiB freed by eviction",
                         *now.kv_bytes_resident / kMiB, *now.kv_bytes_full / kMiB, freed / kMiB);
}

std::string Contexts(const ServerReading& before, const ServerReading& now) {
  std::string text = absl::StrFormat("%s in %s pages", Number(now.contexts), Number(now.pages_contexts));
  const double asked = Increase(before.cache_query_tokens, now.cache_query_tokens).value_or(0);
  if (asked > 0) {
    const double hit = Increase(before.cache_hit_tokens, now.cache_hit_tokens).value_or(0);
    absl::StrAppendFormat(&text, ", %.0f %% of the tokens looked up were there", 100 * hit / asked);
  }
  return text;
}

std::string Latency(const HistogramReading& before, const HistogramReading& now) {
  const HistogramReading recent = Between(before, now);
  if (recent.buckets.empty() || recent.buckets.back().second <= 0) return "p50 -   p99 -";
  return absl::StrFormat("p50 %.0f ms   p99 %.0f ms   (%.0f)", 1e3 * Quantile(recent, 0.5),
                         1e3 * Quantile(recent, 0.99), recent.buckets.back().second);
}

// "queue_full 12 (+3)"
std::string Counts(const std::map<std::string, double>& before, const std::map<std::string, double>& now) {
  const std::map<std::string, double> moved = Increase(before, now);
  std::string text;
  for (const auto& [name, count] : now) {
    absl::StrAppendFormat(&text, "%s%s %.0f", text.empty() ? "" : "   ", name, count);
    if (const auto found = moved.find(name); found != moved.end())
      absl::StrAppendFormat(&text, " (+%.0f)", found->second);
  }
  return text.empty() ? "none" : text;
}

absl::StatusOr<ServerReading> Read(const std::string& address) {
  LUKV_ASSIGN_OR_RETURN(const std::string page, FetchMetrics(address));
  return ReadServer(MetricsPage(page), absl::Now());
}

void Print(const std::string& view, bool terminal) {
  // Each line to its end and what is below: nothing of the last view stays, and nothing flickers.
  const std::string shown =
      terminal ? absl::StrFormat("\x1b[H%s\x1b[J", absl::StrReplaceAll(view, {{"\n", "\x1b[K\n"}})) : view + "\n";
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

std::string TopView(const std::string& address, const ServerReading& before, const ServerReading& now) {
  const double seconds = absl::ToDoubleSeconds(now.at - before.at);
  std::string view = absl::StrFormat("lukv at %s, %s, last %.1f s\n\n", address,
                                     absl::FormatTime("%H:%M:%S", now.at, absl::LocalTimeZone()), seconds);
  const auto line = [&](const char* name, const std::string& text) {
    absl::StrAppendFormat(&view, "%-13s%s\n", name, text);
  };
  line("requests", absl::StrFormat("running %s   waiting %s   parked %s", Number(now.running), Number(now.waiting),
                                   Number(now.parked)));
  line("tokens/s", absl::StrFormat("in %s   out %s", Rate(Increase(before.prompt_tokens, now.prompt_tokens), seconds),
                                   Rate(Increase(before.generated_tokens, now.generated_tokens), seconds)));
  line("KV pages", Pages(now));
  line("KV memory", Kept(now));
  line("contexts", Contexts(before, now));
  line("preempted",
       absl::StrFormat("%s (+%s)", Number(now.preemptions), Number(Increase(before.preemptions, now.preemptions))));
  line("first token", Latency(before.ttft, now.ttft));
  line("inter-token", Latency(before.itl, now.itl));
  line("ended", Counts(before.ended, now.ended));
  line("refused", Counts(before.refused, now.refused));
  return view;
}

absl::Status RunTop(const TopOptions& options) {
  absl::Duration interval;
  ParseSeconds(options.interval, &interval);
  const bool terminal = !options.once && isatty(STDOUT_FILENO) == 1;
  LUKV_ASSIGN_OR_RETURN(ServerReading before, Read(options.metrics));
  if (terminal) std::fputs("\x1b[2J", stdout);
  while (true) {
    absl::SleepFor(interval);
    absl::StatusOr<ServerReading> now = Read(options.metrics);
    if (!now.ok()) {
      if (options.once) return now.status();
      Print(std::string(now.status().message()) + "\n", terminal);
      continue;
    }
    Print(TopView(options.metrics, before, *now), terminal);
    if (options.once) return absl::OkStatus();
    before = *std::move(now);
  }
}

}  // namespace lukv
