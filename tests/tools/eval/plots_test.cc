#include "tools/eval/plots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::SizeIs;

EvalResult Result(const std::string& task, const std::string& policy, double ratio, double score) {
  return {.task = task, .length = 1500, .policy = policy, .ratio = ratio, .score = score, .samples = 1};
}

std::vector<EvalResult> Results() {
  std::vector<EvalResult> results;
  for (const char* task : {"niah_single_1", "niah_single_2"}) {
    const double bonus = task[12] == '1' ? 0 : 10;
    results.push_back(Result(task, "full", 0, 80 + bonus));
    for (const char* allocator : {"uniform", "lukv"}) {
      for (const char* scorer : {"keydiff", "snapkv"}) {
        for (const double ratio : {0.8, 0.5}) {
          const std::string name = std::string(allocator) + "+" + scorer;
          results.push_back(Result(task, name + (ratio == 0.8 ? "@0.8" : "@0.5"), ratio, 100 * (1 - ratio) + bonus));
        }
      }
    }
  }
  results.push_back(Result("nll", "full", 0, 2.5));
  results.push_back(Result("nll", "uniform+<b>&@0.8", 0.8, 2.75));
  return results;
}

TEST(MakePlots, AveragesAGroup) {
  const std::vector<Plot> plots = MakePlots(Results());
  ASSERT_THAT(plots, SizeIs(2));
  EXPECT_EQ(plots[0].file, "niah-1500.svg");
  EXPECT_EQ(plots[1].file, "nll-1500.svg");
  const Chart& chart = plots[0].chart;
  EXPECT_THAT(chart.title, HasSubstr("niah_single_1, niah_single_2 at 1500 tokens"));
  ASSERT_THAT(chart.levels, SizeIs(1));
  EXPECT_DOUBLE_EQ(chart.levels[0].y, 85);
  ASSERT_THAT(chart.series, SizeIs(4));
  EXPECT_EQ(chart.series[0].name, "uniform+keydiff");
  EXPECT_THAT(chart.series[0].points, ElementsAre(Pair(0.5, 55), Pair(0.8, testing::DoubleNear(25, 1e-9))));
}

TEST(MakePlots, ColoursAreScorersAndMarkersAllocators) {
  const std::vector<Plot> plots = MakePlots(Results());
  const std::vector<ChartSeries>& series = plots[0].chart.series;
  EXPECT_EQ(series[0].colour, series[2].colour);  // keydiff
  EXPECT_EQ(series[1].colour, series[3].colour);
  EXPECT_NE(series[0].colour, series[1].colour);
  EXPECT_EQ(series[0].marker, series[1].marker);  // uniform
  EXPECT_EQ(series[2].marker, series[3].marker);
  EXPECT_NE(series[0].marker, series[2].marker);
}

TEST(MakePlots, NllHasItsOwnScale) {
  const Chart chart = MakePlots(Results())[1].chart;
  EXPECT_LT(chart.y_min, 2.5);
  EXPECT_GT(chart.y_max, 2.75);
  EXPECT_LT(chart.y_max, 3);
}

// Every element is closed, in order, and text is escaped.
void ExpectWellFormed(const std::string& svg) {
  std::vector<std::string> open;
  const std::regex tag("<(/?)([a-z]+)((?: [a-zA-Z0-9-]+=\"[^\"<]*\"| )*)(/?)>");
  std::string rest = svg;
  std::smatch match;
  std::string between;
  while (std::regex_search(rest, match, tag)) {
    between += match.prefix();
    if (match[1] == "/") {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), match[2]);
      open.pop_back();
    } else if (match[4] != "/") {
      open.push_back(match[2]);
    }
    rest = match.suffix();
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(between.find('<'), std::string::npos) << between;
  EXPECT_FALSE(std::regex_search(between, std::regex("&(?!(amp|lt|gt|quot);)"))) << between;
  EXPECT_EQ(rest, "\n");
}

TEST(ChartSvg, IsWellFormed) {
  for (const Plot& plot : MakePlots(Results())) {
    const std::string svg = ChartSvg(plot.chart);
    ExpectWellFormed(svg);
    EXPECT_THAT(svg, testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    EXPECT_THAT(svg, HasSubstr(">full cache</text>"));
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
  }
  EXPECT_THAT(ChartSvg(MakePlots(Results())[1].chart), HasSubstr("uniform+&lt;b&gt;&amp;"));
}

TEST(WritePlots, OneFileEach) {
  const std::string folder = testing::TempDir() + "/plots";
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(WritePlots(Results(), folder).ok());
  std::stringstream text;
  text << std::ifstream(folder + "/niah-1500.svg").rdbuf();
  EXPECT_EQ(text.str(), ChartSvg(MakePlots(Results())[0].chart));
  EXPECT_TRUE(std::filesystem::exists(folder + "/nll-1500.svg"));
  std::filesystem::remove_all(folder);
  EXPECT_THAT(WritePlots(Results(), folder).message(), HasSubstr(folder));
}

}  // namespace
}  // namespace lukv
