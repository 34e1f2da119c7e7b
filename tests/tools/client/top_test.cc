#include "tools/client/top.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/server/test_server.h"

namespace lukv {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

ServerReading Early() {
  return {.at = absl::FromUnixSeconds(1000),
          .running = 1,
          .waiting = 0,
          .parked = 0,
          .pages_used = 0,
          .pages_total = 200,
          .contexts = 2,
          .pages_contexts = 30,
          .kv_bytes_full = 0,
          .kv_bytes_resident = 0,
          .prompt_tokens = 1000,
          .generated_tokens = 100,
          .preemptions = 3,
          .cache_query_tokens = 0,
          .cache_hit_tokens = 0,
          .ended = {{"stop", 5}},
          .refused = {},
          .ttft = {.buckets = {{0.1, 10}, {kNoLimit, 10}}},
          .itl = {.buckets = {{0.01, 7}, {kNoLimit, 7}}}};
}

ServerReading Late() {
  ServerReading now = Early();
  now.at += absl::Seconds(2);
  now.running = 4;
  now.waiting = 7;
  now.parked = 1;
  now.pages_used = 50;
  now.kv_bytes_full = 8 << 20;
  now.kv_bytes_resident = 2 << 20;
  now.prompt_tokens = 1500;
  now.generated_tokens = 130;
  now.preemptions = 5;
  now.cache_query_tokens = 400;
  now.cache_hit_tokens = 300;
  now.ended["stop"] = 9;
  now.refused["queue_full"] = 12;
  now.ttft.buckets = {{0.1, 20}, {kNoLimit, 20}};
  return now;
}

TEST(TopView, ShowsGaugesAsTheyAreAndCountersAsTheyMoved) {
  const std::string view = TopView("host:1", Early(), Late());
  EXPECT_THAT(view, AllOf(HasSubstr("host:1"), HasSubstr("last 2.0 s"), HasSubstr("running 4   waiting 7   parked 1"),
                          HasSubstr("in 250.0   out 15.0"), HasSubstr("50 of 200"), HasSubstr("25.0 %"),
                          HasSubstr("6.0 MiB freed by eviction"), HasSubstr("2 in 30 pages, 75 % of the tokens"),
                          HasSubstr("5 (+2)"), HasSubstr("stop 9 (+4)"), HasSubstr("queue_full 12 (+12)")));
  EXPECT_THAT(view, ContainsRegex("first token +p50 50 ms   p99 99 ms   \\(10\\)"));
  EXPECT_THAT(view, ContainsRegex("inter-token +p50 -   p99 -"));  // None in the interval.
}

TEST(TopView, LeavesOutWhatThePageDoesNotHave) {
  const std::string view = TopView("host:1", {.at = absl::UnixEpoch()}, {.at = absl::FromUnixSeconds(1)});
  EXPECT_THAT(view, AllOf(HasSubstr("running -   waiting -   parked -"), HasSubstr("in -   out -"), HasSubstr("- of -"),
                          Not(HasSubstr("nan"))));
}

TEST(Top, ShowsAServerOnce) {
  TestServer server(Says({1, 2, 3}), {.metrics = true});
  EXPECT_TRUE(ReadAll(*server.Stub(), TextRequest("a", 3)).status.ok());
  testing::internal::CaptureStdout();
  const absl::Status status = RunTop({.metrics = server.server().metrics_address(), .interval = "10ms", .once = true});
  const std::string view = testing::internal::GetCapturedStdout();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(view, AllOf(HasSubstr("running 0"), HasSubstr("0 of 100"), HasSubstr("length 1"), HasSubstr("none"),
                          Not(HasSubstr("\x1b"))));
}

TEST(Top, SaysThatNobodyListens) {
  const absl::Status status = RunTop({.metrics = "127.0.0.1:1", .once = true});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace lukv
