#include "tools/load/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/load/records.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(Percentiles, LieBetweenTheirNeighbours) {
  EXPECT_EQ(PercentileOf({}, 0.5), 0);
  const std::vector<double> one = {7};
  EXPECT_EQ(PercentileOf(one, 0.99), 7);
  const std::vector<double> values = {10, 20, 30, 40, 50};
  EXPECT_EQ(PercentileOf(values, 0), 10);
  EXPECT_EQ(PercentileOf(values, 0.5), 30);
  EXPECT_DOUBLE_EQ(PercentileOf(values, 0.9), 46);
  EXPECT_EQ(PercentileOf(values, 1), 50);
}

TEST(Percentiles, SortByThemselves) {
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  const Percentiles p = PercentilesOf(values);
  EXPECT_EQ(p.count, 101);
  EXPECT_EQ(p.mean, 50);
  EXPECT_EQ(p.p50, 50);
  EXPECT_EQ(p.p90, 90);
  EXPECT_EQ(p.p99, 99);
  EXPECT_EQ(p.max, 100);
}

TEST(Pauses, CountWhereTheyEnd) {
  const RequestRecord record = OkRecord(0, 0, {1, 1.5, 3, 3.25});
  EXPECT_THAT(Pauses(record, 0, 100), ElementsAre(0.5, 1.5, 0.25));
  EXPECT_THAT(Pauses(record, 2, 3.25), ElementsAre(1.5));
  EXPECT_THAT(Pauses(OkRecord(0, 0, {1}), 0, 100), ElementsAre());
}

TEST(Summary, LatenciesCountFromWhenARequestWasDue) {
  RequestRecord late = OkRecord(0, 1, {2, 2.5});
  late.sent = 1.9;
  const LoadSummary summary = Summarise({}, RunOf({late}, 10), {});
  EXPECT_EQ(summary.ttft.max, 1);
  EXPECT_EQ(summary.itl.max, 0.5);
  EXPECT_EQ(summary.e2e.max, 1.5);
}

TEST(Summary, CountsEndingsAndThroughput) {
  RequestRecord refused = EndedRecord(2, Ending::kRefused, true, "QUEUE_FULL");
  RequestRecord failed = EndedRecord(3, Ending::kFailed, false, "UNKNOWN");
  failed.message = "UNKNOWN: odd";
  RequestRecord cancelled = EndedRecord(4, Ending::kCancelled, false, "CANCELLED", 5);
  const LoadSummary summary =
      Summarise({}, RunOf({OkRecord(0, 0, {1, 2}), OkRecord(1, 0, {1, 2, 3}), refused, failed, cancelled}, 10), {});
  EXPECT_THAT(summary.endings, ElementsAre(Pair("cancelled", 1), Pair("failed", 1), Pair("ok", 2), Pair("refused", 1)));
  EXPECT_THAT(summary.refusals, ElementsAre(Pair("QUEUE_FULL", 1)));
  EXPECT_THAT(summary.failures, ElementsAre(Pair("UNKNOWN: odd", 1)));
  EXPECT_DOUBLE_EQ(summary.requests_per_s, 0.2);
  EXPECT_DOUBLE_EQ(summary.prompt_tokens_per_s, 20);
  EXPECT_DOUBLE_EQ(summary.output_tokens_per_s, 1);
  EXPECT_EQ(summary.wrong_tokens, 0);
}

TEST(Summary, NoticesLostAndRepeatedTokens) {
  RequestRecord lost = OkRecord(0, 0, {1, 2});
  lost.asked_output = 3;
  RequestRecord repeated = OkRecord(1, 0, {1, 2});
  repeated.reported_tokens = 1;
  EXPECT_EQ(Summarise({}, RunOf({lost, repeated, OkRecord(2, 0, {1})}, 10), {}).wrong_tokens, 2);
}

TEST(Summary, GoodputKeepsBothTargets) {
  LoadOptions options;
  options.slo_ttft = absl::Seconds(1);
  options.slo_itl = absl::Milliseconds(500);
  const RequestRecord good = OkRecord(0, 0, {1, 1.1, 2});  // A longer pause is fine as long as the mean is.
  const RequestRecord late = OkRecord(1, 0, {1.1, 1.2});
  const RequestRecord slow = OkRecord(2, 0, {0.5, 1.1});
  const RequestRecord refused = EndedRecord(3, Ending::kRefused, true, "QUEUE_FULL");
  const LoadRun run = RunOf({good, late, slow, refused}, 10);
  EXPECT_DOUBLE_EQ(*Summarise(options, run, {}).good_requests_per_s, 0.1);
  EXPECT_DOUBLE_EQ(*Summarise(options, run, {}).good_share, 0.25);
  EXPECT_EQ(Summarise({}, run, {}).good_share, std::nullopt);
}

TEST(Summary, ReadersThatPauseSayNothingOfTheServersPauses) {
  RequestRecord slow = OkRecord(0, 0, {1, 9});
  slow.manner = Manner::kSlow;
  const LoadSummary summary = Summarise({}, RunOf({slow, OkRecord(1, 0, {1, 1.5})}, 10), {});
  EXPECT_EQ(summary.itl.count, 1);
  EXPECT_EQ(summary.itl.max, 0.5);
}

TEST(Summary, ComparesPausesBesideTheIntruderWithThoseBefore) {
  LoadOptions options;
  options.intruder_before = absl::Seconds(2);
  // Pauses: 1 (too early), 0.5, 0.5 before; 2 beside it; 3 after.
  LoadRun run = RunOf({OkRecord(0, 0, {2, 3, 3.5, 4, 6, 9})}, 10);
  run.intruder = OkRecord(-1, 5.5, {7});
  run.intruder->sent = 5.5;
  LoadSummary summary = Summarise(options, run, {});
  ASSERT_TRUE(summary.intruder.has_value());
  EXPECT_EQ(summary.intruder->before.count, 2);
  EXPECT_EQ(summary.intruder->before.p99, 0.5);
  EXPECT_EQ(summary.intruder->during.count, 1);
  EXPECT_DOUBLE_EQ(summary.intruder->p99_ratio, 4);
  EXPECT_EQ(summary.intruder->ttft, 1.5);
  EXPECT_EQ(summary.intruder->others_prefilling, 0);
  EXPECT_EQ(summary.e2e.count, 1);  // The intruder is none of the requests.
  run.records.push_back(OkRecord(1, 5, {8}));
  EXPECT_EQ(Summarise(options, run, {}).intruder->others_prefilling, 1);
}

TEST(Summary, TakesPeaksAndIncreasesFromTheServer) {
  std::vector<TimedReading> readings(3);
  readings[0].reading = {.running = 0, .pages_used = 2, .pages_total = 10, .preemptions = 5};
  readings[1].reading = {.running = 3, .waiting = 4, .pages_used = 9, .pages_total = 10, .preemptions = 6};
  readings[2].reading = {.running = 0, .pages_used = 1, .pages_total = 10, .preemptions = 8};
  const LoadSummary summary = Summarise({}, RunOf({OkRecord(0, 0, {1})}, 1), readings);
  ASSERT_TRUE(summary.server.has_value());
  EXPECT_EQ(summary.server->pages_used_peak, 9);
  EXPECT_EQ(summary.server->pages_used_end, 1);
  EXPECT_EQ(summary.server->running_peak, 3);
  EXPECT_EQ(summary.server->waiting_peak, 4);
  EXPECT_EQ(summary.server->preemptions, 3);
  EXPECT_EQ(summary.server->parked_peak, std::nullopt);
}

}  // namespace
}  // namespace lukv
