#include "tools/eval/svg_chart.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

// The plot's frame; the legend stands to the right of it.
constexpr double kLeft = 70, kTop = 50, kWidth = 560, kHeight = 380;
constexpr double kLegendX = kLeft + kWidth + 24, kLegendStep = 20;
constexpr double kBottom = 60;

// Okabe and Ito's colours, which stay apart for people with colour blindness; without yellow, too pale on white.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"};
constexpr const char* kDashes[] = {"", "7 4", "2 3", "10 3 2 3", "1 5"};
constexpr size_t kMarkers = 5;

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Text(double x, double y, const char* anchor, const std::string& text, const char* extra = "") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>\n", x, y, anchor, extra,
                         Escaped(text));
}

std::string Line(double x1, double y1, double x2, double y2, const char* style) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
}

std::string Marker(size_t marker, double x, double y, const char* colour) {
  constexpr double kR = 5;
  switch (marker % kMarkers) {
    case 0:
      return absl::StrFormat("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\"/>\n", x, y, kR, colour);
    case 1:
      return absl::StrFormat("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x - kR + 0.5,
                             y - kR + 0.5, 2 * kR - 1, 2 * kR - 1, colour);
    case 2:
      return absl::StrFormat("<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\" fill=\"%s\"/>\n", x, y - kR - 1, kR + 1, 2 * kR,
                             -2 * kR - 2, colour);
    case 3:
      return absl::StrFormat("<path d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\" fill=\"%s\"/>\n", x, y - kR - 1.5,
                             kR + 1.5, kR + 1.5, -kR - 1.5, kR + 1.5, -kR - 1.5, -kR - 1.5, colour);
    default:
      return absl::StrFormat(
          "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"white\" stroke=\"%s\" stroke-width=\"2\"/>\n", x, y,
          kR - 0.5, colour);
  }
}

// A round distance between marks, so that there are about `marks` of them.
double Step(double range, int marks) {
  const double rough = range / marks;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * 0.999) return factor * power;
  }
  return 10 * power;
}

class Painter {
 public:
  explicit Painter(const Chart& chart) : chart_(chart) {}

  std::string Paint() {
    const double rows = static_cast<double>(chart_.series.size() + chart_.levels.size());
    const double height = std::max(kTop + kHeight + kBottom, kTop + rows * kLegendStep + 20);
    std::string svg = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
        "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
        Width(), height, Width(), height);
    svg += Text(kLeft, kTop - 20, "start", chart_.title, "font-size=\"16\" font-weight=\"bold\"");
    svg += Axes();
    double legend_y = kTop + 8;
    for (const ChartLevel& level : chart_.levels) {
      constexpr char kStyle[] = "stroke=\"#444\" stroke-width=\"1.5\" stroke-dasharray=\"4 4\"";
      svg += Line(kLeft, Y(level.y), kLeft + kWidth, Y(level.y), kStyle);
      svg += Legend(level.name, legend_y, Line(kLegendX, legend_y, kLegendX + 36, legend_y, kStyle));
      legend_y += kLegendStep;
    }
    for (const ChartSeries& series : chart_.series) {
      svg += Series(series);
      svg += Legend(series.name, legend_y,
                    StrCat(Line(kLegendX, legend_y, kLegendX + 36, legend_y, Style(series).c_str()),
                           Marker(series.marker, kLegendX + 18, legend_y, Colour(series))));
      legend_y += kLegendStep;
    }
    return svg + "</svg>\n";
  }

 private:
  double Width() const {
    size_t longest = 0;
    for (const ChartLevel& level : chart_.levels) longest = std::max(longest, level.name.size());
    for (const ChartSeries& series : chart_.series) longest = std::max(longest, series.name.size());
    constexpr double kCharacter = 7.8;  // At most, on average, in this size.
    return kLegendX + 60 + kCharacter * static_cast<double>(longest);
  }
  double X(double x) const { return kLeft + (x - chart_.x_min) / (chart_.x_max - chart_.x_min) * kWidth; }
  double Y(double y) const { return kTop + kHeight - (y - chart_.y_min) / (chart_.y_max - chart_.y_min) * kHeight; }

  static const char* Colour(const ChartSeries& series) { return kColours[series.colour % std::size(kColours)]; }
  static std::string Style(const ChartSeries& series) {
    return absl::StrFormat("stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" fill=\"none\"", Colour(series),
                           kDashes[series.marker % std::size(kDashes)]);
  }

  std::string Axes() const {
    std::string svg;
    constexpr char kGrid[] = "stroke=\"#ddd\"";
    const auto each = [](double low, double high, int marks, const auto& draw) {
      const double step = Step(high - low, marks);
      for (double v = std::ceil(low / step - 1e-6) * step; v <= high + 1e-6 * step; v += step) draw(v);
    };
    each(chart_.x_min, chart_.x_max, 6, [&](double v) {
      svg += Line(X(v), kTop, X(v), kTop + kHeight, kGrid);
      svg += Text(X(v), kTop + kHeight + 18, "middle", absl::StrFormat("%.4g", std::abs(v) < 1e-9 ? 0 : v));
    });
    each(chart_.y_min, chart_.y_max, 6, [&](double v) {
      svg += Line(kLeft, Y(v), kLeft + kWidth, Y(v), kGrid);
      svg += Text(kLeft - 8, Y(v) + 4, "end", absl::StrFormat("%.4g", std::abs(v) < 1e-9 ? 0 : v));
    });
    svg +=
        absl::StrFormat("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#444\"/>\n",
                        kLeft, kTop, kWidth, kHeight);
    svg += Text(kLeft + kWidth / 2, kTop + kHeight + 42, "middle", chart_.x_label);
    svg += Text(0, 0, "middle", chart_.y_label,
                absl::StrFormat("transform=\"translate(20 %.1f) rotate(-90)\"", kTop + kHeight / 2).c_str());
    return svg;
  }

  std::string Series(const ChartSeries& series) const {
    std::string points, markers;
    for (const auto& [x, y] : series.points) {
      points += absl::StrFormat("%s%.1f,%.1f", points.empty() ? "" : " ", X(x), Y(y));
      markers += Marker(series.marker, X(x), Y(y), Colour(series));
    }
    return StrCat("<polyline points=\"", points, "\" ", Style(series), "/>\n", markers);
  }

  static std::string Legend(const std::string& name, double y, const std::string& sign) {
    return StrCat(sign, Text(kLegendX + 44, y + 4, "start", name));
  }

  const Chart& chart_;
};

}  // namespace

std::string ChartSvg(const Chart& chart) { return Painter(chart).Paint(); }

}  // namespace lukv
