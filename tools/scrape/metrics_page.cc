#include "tools/scrape/metrics_page.h"

#include <cmath>
#include <cstddef>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lukv {
namespace {

// {a="x",b="y"} from `text`, whose first character is the brace; the rest of the line stays in `text`. Whether it is
// well formed.
bool TakeLabels(std::string_view& text, std::map<std::string, std::string>& labels) {
  text.remove_prefix(1);
  while (!text.empty() && text.front() != '}') {
    const size_t equals = text.find("=\"");
    if (equals == std::string_view::npos) return false;
    const std::string name(text.substr(0, equals));
    text.remove_prefix(equals + 2);
    std::string value;
    while (!text.empty() && text.front() != '"') {
      if (text.front() == '\\' && text.size() > 1) {
        text.remove_prefix(1);
        value += text.front() == 'n' ? '\n' : text.front();
      } else {
        value += text.front();
      }
      text.remove_prefix(1);
    }
    if (text.empty()) return false;
    text.remove_prefix(1);
    labels[name] = value;
    if (!text.empty() && text.front() == ',') text.remove_prefix(1);
  }
  if (text.empty()) return false;
  text.remove_prefix(1);
  return true;
}

bool ParseNumber(std::string_view text, double& value) {
  // A time may follow the value.
  text = text.substr(0, text.find(' '));
  if (text == "+Inf") {
    value = std::numeric_limits<double>::infinity();
    return true;
  }
  return absl::SimpleAtod(absl::string_view(text.data(), text.size()), &value);
}

}  // namespace

MetricsPage::MetricsPage(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') continue;
    const size_t name_end = line.find_first_of("{ ");
    if (name_end == std::string_view::npos) continue;
    const std::string name(line.substr(0, name_end));
    line.remove_prefix(name_end);
    Sample sample;
    if (line.front() == '{' && !TakeLabels(line, sample.labels)) continue;
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(' ')));
    if (ParseNumber(line, sample.value)) samples_[name].push_back(std::move(sample));
  }
}

std::optional<double> MetricsPage::Sum(const std::string& name) const {
  const auto found = samples_.find(name);
  if (found == samples_.end()) return std::nullopt;
  double sum = 0;
  for (const Sample& sample : found->second) sum += sample.value;
  return sum;
}

std::map<std::string, double> MetricsPage::By(const std::string& name, const std::string& label) const {
  std::map<std::string, double> values;
  const auto found = samples_.find(name);
  if (found == samples_.end()) return values;
  for (const Sample& sample : found->second) {
    if (const auto value = sample.labels.find(label); value != sample.labels.end()) {
      values[value->second] += sample.value;
    }
  }
  return values;
}

HistogramReading MetricsPage::Histogram(const std::string& name) const {
  HistogramReading histogram;
  std::map<double, double> buckets;
  for (const auto& [limit, count] : By(absl::StrCat(name, "_bucket"), "le")) {
    double upper = 0;
    if (ParseNumber(limit, upper)) buckets[upper] += count;
  }
  histogram.buckets.assign(buckets.begin(), buckets.end());
  histogram.sum = Sum(absl::StrCat(name, "_sum")).value_or(0);
  return histogram;
}

HistogramReading Between(const HistogramReading& before, const HistogramReading& after) {
  if (before.buckets.size() != after.buckets.size()) return after;
  HistogramReading between = after;
  for (size_t i = 0; i < between.buckets.size(); ++i) between.buckets[i].second -= before.buckets[i].second;
  between.sum -= before.sum;
  return between;
}

double Quantile(const HistogramReading& histogram, double q) {
  const auto& buckets = histogram.buckets;
  if (buckets.empty() || buckets.back().second <= 0) return std::nan("");
  const double rank = q * buckets.back().second;
  for (size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i].second < rank) continue;
    const double lower = i == 0 ? 0 : buckets[i - 1].first;
    if (std::isinf(buckets[i].first)) return lower;
    const double below = i == 0 ? 0 : buckets[i - 1].second;
    const double inside = buckets[i].second - below;
    return inside <= 0 ? lower : lower + (buckets[i].first - lower) * (rank - below) / inside;
  }
  return buckets.back().first;
}

}  // namespace lukv
