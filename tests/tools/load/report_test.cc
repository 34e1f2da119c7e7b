#include "tools/load/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/load/records.h"
#include "tools/load/plot.h"

namespace lukv {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

LoadRun SampleRun() {
  LoadRun run = RunOf(
      {OkRecord(1, 0, {0.5, 0.6}), OkRecord(0, 0, {1, 1.25}), EndedRecord(2, Ending::kRefused, true, "QUEUE_FULL")}, 2);
  run.intruder = OkRecord(-1, 1, {1.5});
  return run;
}

TEST(Report, SaysWhatHappened) {
  const LoadRun run = SampleRun();
  const std::vector<BookLine> books = {CheckEndings(run)};
  const std::string text = LoadText({}, Summarise({}, run, {}), books);
  EXPECT_THAT(text,
              AllOf(HasSubstr("3 requests in 2.0 s"), HasSubstr("ok 2, refused 1"), HasSubstr("refused: QUEUE_FULL 1"),
                    HasSubstr("1.00 requests/s"), HasSubstr("750.0 ms"), HasSubstr("Intruder of 100 tokens: ok"),
                    HasSubstr("All requests ended as they should"), Not(HasSubstr("FINDING"))));
}

TEST(Report, NamesFindings) {
  LoadRun run = SampleRun();
  run.records[0].ending = Ending::kStuck;
  run.records[1].tokens = 7;
  run.records[2].ending = Ending::kFailed;
  run.records[2].message = "INTERNAL: broken";
  run.intruder->ending = Ending::kRefused;
  run.intruder->reason = "NEVER_FITS";
  run.sent = 4;
  const std::vector<BookLine> books = {CheckEndings(run)};
  const LoadSummary summary = Summarise({}, run, {});
  EXPECT_THAT(
      Findings(summary, books),
      testing::ElementsAre(HasSubstr("1 requests failed: INTERNAL: broken"), HasSubstr("1 requests never ended"),
                           HasSubstr("1 answers have another number of tokens"), HasSubstr("NEVER_FITS"),
                           HasSubstr("requests that ended once: 3, not in [4, 4]")));
  EXPECT_THAT(LoadText({}, summary, books), HasSubstr("FINDING: 1 requests never ended"));
}

TEST(Report, JsonHasAllOfIt) {
  const LoadRun run = SampleRun();
  const std::vector<BookLine> books = {CheckEndings(run)};
  const auto json = nlohmann::json::parse(LoadJson({}, Summarise({}, run, {}), books, run, {}));
  EXPECT_EQ(json["sent"], 3);
  EXPECT_EQ(json["endings"]["ok"], 2);
  EXPECT_EQ(json["refusals"]["QUEUE_FULL"], 1);
  EXPECT_EQ(json["ttft"]["p50"], 0.75);
  EXPECT_EQ(json["intruder"]["ttft"], 0.5);
  EXPECT_TRUE(json["server"].is_null());
  EXPECT_TRUE(json["findings"].empty());
  ASSERT_EQ(json["requests"].size(), 3u);
  EXPECT_EQ(json["requests"][0]["index"], 0);
  EXPECT_EQ(json["requests"][0]["ttft"], 1.0);
  EXPECT_FALSE(json["requests"][2].contains("ttft"));
  EXPECT_EQ(json["requests"][2]["reason"], "QUEUE_FULL");
}

TEST(Plot, DrawsWhatThereIs) {
  std::vector<TimedReading> readings(2);
  readings[1] = {.seconds = 2, .reading = {.running = 3, .pages_used = 5, .pages_total = 10}};
  const std::string svg = LoadSvg(SampleRun(), readings);
  EXPECT_THAT(svg, AllOf(testing::StartsWith("<svg"), HasSubstr("Latency"), HasSubstr("Inter-token"),
                         HasSubstr("intruder at 1.0"), HasSubstr("KV pages"), Not(HasSubstr("nan"))));
  EXPECT_THAT(LoadSvg(SampleRun(), {}), Not(HasSubstr("KV pages")));
  EXPECT_THAT(LoadSvg(RunOf({}, 0), {}), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace lukv
