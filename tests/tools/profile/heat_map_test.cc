#include "tools/profile/heat_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lukv {
namespace {

using testing::HasSubstr;

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// At 80 % removed the first head keeps 57 % and the second 7 %.
BudgetCurve Curve(int32_t layers, int32_t heads) {
  std::vector<float> ratios(static_cast<size_t>(BudgetCurve::kRatios * layers * heads), 0.3f);
  ratios[static_cast<size_t>(79 * layers * heads)] = 0.43f;
  ratios[static_cast<size_t>(79 * layers * heads + 1)] = 0.93f;
  CurveInfo info{.model_name = "a <b> & c", .sink = 4, .window = 1};
  return *BudgetCurve::Make(info, layers, heads, ratios);
}

TEST(HeatMap, HasACellPerHeadAndItsShareInFigures) {
  const std::string svg = HeatMap(Curve(4, 3));
  EXPECT_THAT(svg, testing::StartsWith("<svg "));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("a &lt;b&gt; &amp; c"));
  EXPECT_THAT(svg, HasSubstr("expected_attention"));
  EXPECT_THAT(svg, HasSubstr("80 % removed over all heads: kept 7.0 % to 70.0 %, median 70.0 %"));
  EXPECT_THAT(svg, HasSubstr(">57</text>"));
  EXPECT_THAT(svg, HasSubstr(">7</text>"));
  // Panels differ by their cells alone, so a bigger model has as many rectangles more as it has cells in four panels.
  EXPECT_EQ(Count(HeatMap(Curve(6, 3)), "<rect") - Count(svg, "<rect"), 4u * 2 * 3);
  EXPECT_EQ(Count(svg, "<text"), Count(svg, "</text>"));
}

TEST(HeatMap, LargeModelsHaveSmallerCells) {
  const std::string svg = HeatMap(Curve(126, 8));
  EXPECT_EQ(Count(svg, ">57</text>"), 0u);
  const size_t width = std::stoul(svg.substr(svg.find("width=\"") + 7));
  EXPECT_LT(width, 1300u);
}

}  // namespace
}  // namespace lukv
