#include "tools/scrape/metrics_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::Pair;

constexpr char kPage[] =
    "# HELP vllm:a Something.\n"
    "# TYPE vllm:a gauge\n"
    "vllm:a{engine=\"0\",model_name=\"m\"} 3\n"
    "vllm:a{engine=\"1\",model_name=\"m\"} 4.5\n"
    "plain 7 1700000000\n"
    "refused{reason=\"queue_full\",engine=\"0\"} 2\n"
    "refused{reason=\"a \\\"b\\\" \\\\ c\"} 1e3\n"
    "refused{engine=\"0\"} 9\n"
    "h_bucket{le=\"0.1\"} 2\n"
    "h_bucket{le=\"0.5\"} 6\n"
    "h_bucket{le=\"+Inf\"} 8\n"
    "h_sum 2.5\n"
    "h_count 8\n";

TEST(MetricsPage, SumsOverLabels) {
  const MetricsPage page(kPage);
  EXPECT_EQ(page.Sum("vllm:a"), 7.5);
  EXPECT_EQ(page.Sum("plain"), 7);
  EXPECT_EQ(page.Sum("vllm:b"), std::nullopt);
}

TEST(MetricsPage, GroupsByALabel) {
  const MetricsPage page(kPage);
  EXPECT_THAT(page.By("refused", "reason"), ElementsAre(Pair("a \"b\" \\ c", 1000), Pair("queue_full", 2)));
  EXPECT_THAT(page.By("nothing", "reason"), ElementsAre());
}

TEST(MetricsPage, SkipsWhatIsNone) {
  const MetricsPage page("garbage\nx{a=\"b} 1\nx{a} 1\nx{ 1\ny nonsense\n\n{} 3\nz 1");
  EXPECT_EQ(page.Sum("x"), std::nullopt);
  EXPECT_EQ(page.Sum("y"), std::nullopt);
  EXPECT_EQ(page.Sum("z"), 1);
}

TEST(Histogram, IsReadAsItStands) {
  const HistogramReading h = MetricsPage(kPage).Histogram("h");
  EXPECT_THAT(h.buckets, ElementsAre(Pair(0.1, 2), Pair(0.5, 6), Pair(std::numeric_limits<double>::infinity(), 8)));
  EXPECT_EQ(h.sum, 2.5);
  EXPECT_TRUE(MetricsPage(kPage).Histogram("g").buckets.empty());
}

TEST(Histogram, QuantilesLieInsideTheirBuckets) {
  const HistogramReading h = MetricsPage(kPage).Histogram("h");
  EXPECT_DOUBLE_EQ(Quantile(h, 0.125), 0.05);  // Of the 2 in [0, 0.1] the first.
  EXPECT_DOUBLE_EQ(Quantile(h, 0.25), 0.1);
  EXPECT_DOUBLE_EQ(Quantile(h, 0.5), 0.3);   // The 4th: half way through [0.1, 0.5].
  EXPECT_DOUBLE_EQ(Quantile(h, 0.99), 0.5);  // No upper limit is known.
  EXPECT_TRUE(std::isnan(Quantile({}, 0.5)));
}

TEST(Histogram, DifferencesLeaveOutWhatWasBefore) {
  const HistogramReading before = MetricsPage(kPage).Histogram("h");
  HistogramReading after = before;
  after.buckets[1].second += 10;
  after.buckets[2].second += 10;
  const HistogramReading between = Between(before, after);
  EXPECT_THAT(between.buckets, ElementsAre(Pair(0.1, 0), Pair(0.5, 10), Pair(testing::_, 10)));
  EXPECT_DOUBLE_EQ(Quantile(between, 0.5), 0.3);
  EXPECT_TRUE(std::isnan(Quantile(Between(before, before), 0.5)));
  EXPECT_EQ(Between({}, after).buckets, after.buckets);
}

}  // namespace
}  // namespace lukv
