#include "tools/eval/plots.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "tools/eval/tasks.h"

namespace lukv {
namespace {

constexpr char kFull[] = "full";

struct Mean {
  double sum = 0;
  int32_t n = 0;
  void Add(double value) { sum += value, ++n; }
  double value() const { return sum / n; }
};

// Index of the value; it is added if it is new.
size_t IndexOf(std::vector<std::string>& values, const std::string& value) {
  const auto it = std::find(values.begin(), values.end(), value);
  if (it != values.end()) return static_cast<size_t>(it - values.begin());
  values.push_back(value);
  return values.size() - 1;
}

// Colours tell scorers apart and markers allocators, so that the eye finds both. Options of a policy make it another
// scorer.
ChartSeries MakeSeries(const std::string& name, std::vector<std::string>& allocators,
                       std::vector<std::string>& scorers) {
  const size_t plus = std::min(name.find('+'), name.size());
  return {.name = name,
          .points = {},
          .colour = IndexOf(scorers, name.substr(plus)),
          .marker = IndexOf(allocators, name.substr(0, plus))};
}

// Tasks of the group that say something of eviction; all of them if none does.
std::vector<std::string> TasksToDraw(std::span<const EvalResult> results, std::string_view group, int32_t length,
                                     size_t& of) {
  std::vector<std::string> all, counting;
  for (const EvalResult& result : results) {
    if (result.length != length || PlotGroup(result.task) != group) continue;
    IndexOf(all, result.task);
    if (Counts(results, result.task, length)) IndexOf(counting, result.task);
  }
  of = all.size();
  return counting.empty() || group == kNllTask ? all : counting;
}

Chart MakeChart(std::span<const EvalResult> results, std::string_view group, int32_t length) {
  size_t of = 0;
  const std::vector<std::string> tasks = TasksToDraw(results, group, length, of);
  std::vector<std::string> names, allocators, scorers;
  std::map<std::pair<std::string, double>, Mean> means;  // By policy and ratio.
  for (const EvalResult& result : results) {
    if (result.length != length || std::find(tasks.begin(), tasks.end(), result.task) == tasks.end()) continue;
    const std::string name = WithoutRatio(result);
    IndexOf(names, name);
    means[{name, result.ratio}].Add(result.score);
  }
  Chart chart{.title = StrCat(absl::StrJoin(tasks, ", "), " at ", length, " tokens"),
              .x_label = "part of the context's KV entries removed",
              .y_label = group == kNllTask ? "negative log-likelihood, nats per token" : "score"};
  if (tasks.size() > 3) chart.title = StrCat(group, ": mean of ", tasks.size(), " tasks at ", length, " tokens");
  if (tasks.size() < of)
    chart.title += StrCat(" (full cache below ", kLeastFullScore, " in ", of - tasks.size(), " more)");
  double low = 1e30, high = -1e30;
  for (const std::string& name : names) {
    ChartSeries series = name == kFull ? ChartSeries{} : MakeSeries(name, allocators, scorers);
    for (const auto& [key, mean] : means) {
      if (key.first != name) continue;
      low = std::min(low, mean.value());
      high = std::max(high, mean.value());
      if (name == kFull) {
        chart.levels.push_back({.name = "full cache", .y = mean.value()});
      } else {
        series.points.emplace_back(key.second, mean.value());
      }
    }
    if (name != kFull) chart.series.push_back(std::move(series));
  }
  if (group == kNllTask) {
    const double margin = std::max(0.05 * (high - low), 1e-3);
    chart.y_min = low - margin;
    chart.y_max = high + margin;
  }
  return chart;
}

}  // namespace

std::vector<Plot> MakePlots(std::span<const EvalResult> results) {
  std::vector<Plot> plots;
  for (const EvalResult& result : results) {
    const std::string_view group = PlotGroup(result.task);
    std::string file = StrCat(group, "-", result.length, ".svg");
    const auto same = [&](const Plot& plot) { return plot.file == file; };
    if (std::any_of(plots.begin(), plots.end(), same)) continue;
    plots.push_back({.file = std::move(file), .chart = MakeChart(results, group, result.length)});
  }
  return plots;
}

absl::Status WritePlots(std::span<const EvalResult> results, const std::string& folder) {
  for (const Plot& plot : MakePlots(results)) {
    LUKV_RETURN_IF_ERROR(WriteWholeFile(StrCat(folder, "/", plot.file), ChartSvg(plot.chart)));
  }
  return absl::OkStatus();
}

}  // namespace lukv
