#include "tools/profile/heat_map.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace lukv {
namespace {

constexpr int kMargin = 24;
constexpr int kLabelWidth = 64;  // Left of the cells.
constexpr int kTitleHeight = 34;
constexpr int kPanelGap = 26;
constexpr int kScaleWidth = 220;
constexpr int kMainPercent = 80;
constexpr int kOtherPercents[] = {50, 90, 95};

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

// Dark for little, bright for much: equal steps of the kept part look like equal steps, also without colour vision.
// (Anchors of the "viridis" map, van der Walt and Smith, CC0.)
std::string Colour(double kept) {
  constexpr int kAnchors[][3] = {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};
  const double place = std::clamp(kept, 0.0, 1.0) * (std::size(kAnchors) - 1);
  const size_t below = std::min(static_cast<size_t>(place), std::size(kAnchors) - 2);
  int colour[3];
  for (int c = 0; c < 3; ++c) {
    const double t = place - static_cast<double>(below);
    colour[c] = static_cast<int>(std::lround((1 - t) * kAnchors[below][c] + t * kAnchors[below + 1][c]));
  }
  return absl::StrFormat("#%02x%02x%02x", colour[0], colour[1], colour[2]);
}

class Picture {
 public:
  explicit Picture(const BudgetCurve& curve) : curve_(curve) {}

  std::string Draw() {
    // As many pixels per layer as a page's width has room for.
    cell_ = std::clamp(960 / curve_.n_layers(), 8, 32);
    int y = kMargin;
    const CurveInfo& info = curve_.info();
    Text(kMargin, y + 16, 16, "start", Escaped(info.model_name.empty() ? info.model_fingerprint : info.model_name),
         "bold");
    Text(kMargin, y + 36, 12, "start",
         absl::StrCat("Part of the context that each kv head keeps, by the budget curve for ",
                      ScorerLabel(info.scorer, info.sink, info.window)));
    y += 56;
    Scale(y);
    y += 52;
    y = Panel(y, kMainPercent, cell_, cell_);
    for (const int percent : kOtherPercents) y = Panel(y + kPanelGap, percent, cell_, std::max(cell_ / 2, 6));
    const int width = 2 * kMargin + kLabelWidth + std::max(curve_.n_layers() * cell_, 420);
    const int height = y + kMargin;
    return absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"sans-serif\" fill=\"#222\">\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n%s</svg>\n",
        width, height, width, height, width, height, body_);
  }

 private:
  void Text(int x, int y, int size, const char* anchor, const std::string& text, const char* weight = "normal",
            const char* fill = "#222") {
    absl::StrAppendFormat(
        &body_,
        "<text x=\"%d\" y=\"%d\" font-size=\"%d\" text-anchor=\"%s\" font-weight=\"%s\" fill=\"%s\">%s</text>\n", x, y,
        size, anchor, weight, fill, text);
  }
  void Rect(int x, int y, int width, int height, const std::string& fill) {
    absl::StrAppendFormat(&body_, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>\n", x, y, width,
                          height, fill);
  }

  void Scale(int y) {
    constexpr int kSteps = 44;
    const int x = kMargin + kLabelWidth;
    for (int i = 0; i < kSteps; ++i) {
      Rect(x + i * kScaleWidth / kSteps, y, kScaleWidth / kSteps, 10, Colour((i + 0.5) / kSteps));
    }
    for (const int percent : {0, 50, 100}) {
      Text(x + percent * kScaleWidth / 100, y + 24, 10, "middle", absl::StrCat(percent, " %"));
    }
    Text(x - 10, y + 9, 10, "end", "kept");
  }

  // Returns where it ends.
  int Panel(int y, int percent, int width, int height) {
    const double ratio = percent / 100.0;
    const int x = kMargin + kLabelWidth;
    std::vector<double> all;
    for (int32_t layer = 0; layer < curve_.n_layers(); ++layer) {
      for (const float pruned : curve_.Layer(ratio, layer)) all.push_back(1.0 - pruned);
    }
    std::sort(all.begin(), all.end());
    Text(kMargin, y + 12, 12, "start",
         absl::StrFormat("%d %% removed over all heads: kept %.1f %% to %.1f %%, median %.1f %%", percent,
                         100 * all.front(), 100 * all.back(), 100 * all[all.size() / 2]),
         "bold");
    y += kTitleHeight - 12;
    const int label_step = width >= 18 ? 1 : 5;
    for (int32_t layer = 0; layer < curve_.n_layers(); ++layer) {
      const std::span<const float> heads = curve_.Layer(ratio, layer);
      for (int32_t head = 0; head < curve_.n_kv_heads(); ++head) {
        const double kept = 1.0 - heads[static_cast<size_t>(head)];
        const int left = x + layer * width, top = y + head * height;
        Rect(left, top, width - 1, height - 1, Colour(kept));
        if (width < 24 || height < 18) continue;
        Text(left + width / 2, top + height / 2 + 4, 10, "middle", absl::StrFormat("%.0f", 100 * kept), "normal",
             kept < 0.55 ? "#fff" : "#222");
      }
      if (layer % label_step == 0) {
        Text(x + layer * width + width / 2, y + curve_.n_kv_heads() * height + 11, 9, "middle", absl::StrCat(layer));
      }
    }
    for (int32_t head = 0; head < curve_.n_kv_heads(); ++head) {
      Text(x - 8, y + head * height + height / 2 + 4, std::min(10, height), "end", absl::StrCat("head ", head));
    }
    y += curve_.n_kv_heads() * height;
    Text(x - 8, y + 11, 9, "end", "layer");
    return y + 14;
  }

  const BudgetCurve& curve_;
  int cell_ = 0;
  std::string body_;
};

}  // namespace

std::string HeatMap(const BudgetCurve& curve) { return Picture(curve).Draw(); }

}  // namespace lukv
