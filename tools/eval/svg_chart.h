// A line chart as an SVG picture.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace lukv {

struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x, y), ascending in x.
  size_t colour = 0;                              // Any numbers; equal ones look alike.
  size_t marker = 0;
};

struct ChartLevel {
  std::string name;
  double y = 0;
};

struct Chart {
  std::string title;
  std::string x_label;
  std::string y_label;
  double x_min = 0, x_max = 1;
  double y_min = 0, y_max = 100;
  std::vector<ChartSeries> series;
  std::vector<ChartLevel> levels;  // Dashed lines across the picture.
};

std::string ChartSvg(const Chart& chart);

}  // namespace lukv
