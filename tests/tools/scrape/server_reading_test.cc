#include "tools/scrape/server_reading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/scrape/fetch.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(ServerReading, TakesWhatIsThere) {
  const ServerReading reading = ReadServer(MetricsPage("vllm:num_requests_running{engine=\"0\"} 4\n"
                                                       "vllm:request_success_total{finished_reason=\"stop\"} 6\n"),
                                           absl::UnixEpoch());
  EXPECT_EQ(reading.running, 4);
  EXPECT_EQ(reading.waiting, std::nullopt);
  EXPECT_THAT(reading.ended, ElementsAre(Pair("stop", 6)));
  EXPECT_TRUE(reading.refused.empty());
}

TEST(ServerReading, IncreasesNeedBothSides) {
  EXPECT_EQ(Increase(std::optional<double>(2), std::optional<double>(5)), 3);
  EXPECT_EQ(Increase(std::nullopt, std::optional<double>(5)), std::nullopt);
  const std::map<std::string, double> before = {{"a", 1}, {"b", 2}};
  const std::map<std::string, double> after = {{"a", 1}, {"b", 5}, {"c", 7}};
  EXPECT_THAT(Increase(before, after), ElementsAre(Pair("b", 3), Pair("c", 7)));
}

TEST(FetchMetrics, SaysWhoDoesNotAnswer) {
  const absl::StatusOr<std::string> page = FetchMetrics("127.0.0.1:1");
  EXPECT_EQ(page.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(page.status().message()), testing::HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace lukv
