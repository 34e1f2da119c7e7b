// A page of Prometheus's text format, as far as a lukv server writes it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lukv {

struct HistogramReading {
  // (upper limit, observations up to it), ascending; the last limit is infinite. Empty: there is no such histogram.
  std::vector<std::pair<double, double>> buckets;
  double sum = 0;
};

class MetricsPage {
 public:
  MetricsPage() = default;
  // Comments and lines that are none of the format's are skipped.
  explicit MetricsPage(std::string_view text);

  // Over all label sets; nullopt: there is none.
  std::optional<double> Sum(const std::string& name) const;
  // By the value of one label; label sets without it are left out.
  std::map<std::string, double> By(const std::string& name, const std::string& label) const;
  HistogramReading Histogram(const std::string& name) const;

 private:
  struct Sample {
    std::map<std::string, std::string> labels;
    double value = 0;
  };
  std::map<std::string, std::vector<Sample>> samples_;
};

// What was observed between two readings of one histogram; all of `after` if `before` is empty.
HistogramReading Between(const HistogramReading& before, const HistogramReading& after);

// The value that a share `q` of the observations do not exceed, taken as spread evenly inside a bucket; of those in the
// last bucket its lower limit. NaN: there are none.
double Quantile(const HistogramReading& histogram, double q);

}  // namespace lukv
