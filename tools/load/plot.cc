#include "tools/load/plot.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tools/eval/svg_chart.h"
#include "tools/load/summary.h"

namespace lukv {
namespace {

constexpr int kBins = 40;
// Of a chart, as ChartSvg makes it; wide enough for its legend.
constexpr double kWidth = 860, kHeight = 490;

// A limit of an axis that shows all of it.
double Above(double highest) {
  if (highest <= 0) return 1;
  const double power = std::pow(10, std::floor(std::log10(highest)));
  for (const double factor : {1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0}) {
    if (factor * power >= highest) return factor * power;
  }
  return 10 * power;
}

void FitY(Chart& chart) {
  double highest = 0;
  for (const ChartSeries& series : chart.series) {
    for (const auto& [x, y] : series.points) highest = std::max(highest, y);
  }
  chart.y_max = Above(highest);
}

ChartSeries Quantiles(const char* name, std::vector<double> values, size_t look) {
  std::sort(values.begin(), values.end());
  ChartSeries series{.name = name, .colour = look, .marker = look};
  for (const double percent : {1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99}) {
    series.points.emplace_back(percent, PercentileOf(values, percent / 100));
  }
  return series;
}

Chart Latencies(const LoadRun& run) {
  std::vector<double> ttft, e2e;
  for (const RequestRecord& record : run.records) {
    if (!record.messages.empty()) ttft.push_back(record.messages[0] - record.due);
    if (record.ending == Ending::kOk) e2e.push_back(record.ended - record.due);
  }
  Chart chart{.title = "Latency", .x_label = "percentile of the requests", .y_label = "seconds", .x_max = 100};
  chart.series = {Quantiles("first token", std::move(ttft), 0), Quantiles("end to end", std::move(e2e), 1)};
  FitY(chart);
  return chart;
}

Chart PausesOverTime(const LoadRun& run) {
  const double bin = run.seconds / kBins;
  std::vector<std::vector<double>> pauses(kBins);
  for (const RequestRecord& record : run.records) {
    if (record.manner == Manner::kSlow) continue;
    for (size_t i = 1; i < record.messages.size(); ++i) {
      const auto at = std::min<size_t>(kBins - 1, static_cast<size_t>(record.messages[i] / bin));
      pauses[at].push_back((record.messages[i] - record.messages[i - 1]) * 1e3);
    }
  }
  Chart chart{.title = "Inter-token latency", .x_label = "seconds", .y_label = "milliseconds", .x_max = run.seconds};
  ChartSeries median{.name = "p50", .colour = 2, .marker = 0};
  ChartSeries high{.name = "p99", .colour = 3, .marker = 1};
  for (int i = 0; i < kBins; ++i) {
    if (pauses[i].empty()) continue;
    const Percentiles p = PercentilesOf(std::move(pauses[i]));
    median.points.emplace_back((i + 0.5) * bin, p.p50);
    high.points.emplace_back((i + 0.5) * bin, p.p99);
  }
  chart.series = {std::move(median), std::move(high)};
  if (run.intruder.has_value()) chart.x_label += absl::StrFormat(" (intruder at %.1f)", run.intruder->sent);
  FitY(chart);
  return chart;
}

Chart ServerOverTime(std::span<const TimedReading> readings, double seconds) {
  Chart chart{.title = "Server", .x_label = "seconds", .y_label = "sequences; % of pages", .x_max = seconds};
  ChartSeries running{.name = "running", .colour = 0, .marker = 0};
  ChartSeries waiting{.name = "waiting", .colour = 1, .marker = 1};
  ChartSeries pages{.name = "KV pages, %", .colour = 2, .marker = 2};
  const size_t step = readings.size() / kBins + 1;
  for (size_t i = 0; i < readings.size(); i += step) {
    const ServerReading& reading = readings[i].reading;
    const double x = std::min(readings[i].seconds, seconds);
    running.points.emplace_back(x, reading.running.value_or(0));
    waiting.points.emplace_back(x, reading.waiting.value_or(0));
    const double total = reading.pages_total.value_or(0);
    pages.points.emplace_back(x, total > 0 ? 100 * reading.pages_used.value_or(0) / total : 0);
  }
  chart.series = {std::move(running), std::move(waiting), std::move(pages)};
  FitY(chart);
  return chart;
}

}  // namespace

std::string LoadSvg(const LoadRun& run, std::span<const TimedReading> readings) {
  std::vector<Chart> charts = {Latencies(run), PausesOverTime(run)};
  if (!readings.empty()) charts.push_back(ServerOverTime(readings, run.seconds));
  const double height = kHeight * static_cast<double>(charts.size());
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kWidth, height, kWidth, height);
  for (size_t i = 0; i < charts.size(); ++i) {
    // A picture inside a picture, moved down.
    svg += absl::StrFormat("<g transform=\"translate(0 %.0f)\">\n%s</g>\n", kHeight * static_cast<double>(i),
                           ChartSvg(charts[i]));
  }
  return svg + "</svg>\n";
}

}  // namespace lukv
