#include "server/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/call_origin.h"

namespace lukv {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kTraceparent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

RequestRecord Record() {
  return {.id = "r\"1",
          .traceparent = kTraceparent,
          .tenant = "team",
          .policy = "full",
          .code = "ABORTED",
          .reason = "nobody\nread",
          .prompt_tokens = 12,
          .cached_tokens = 8,
          .generated_tokens = 3,
          .preemptions = 1,
          .queue = absl::Milliseconds(1500),
          .total = absl::Seconds(2)};
}

TEST(RequestLog, IsJsonOfOneLine) {
  const std::string line = RequestJson(Record());
  EXPECT_THAT(line, Not(HasSubstr("\n")));
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["request_id"], "r\"1");
  EXPECT_EQ(json["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(json["reason"], "nobody\nread");
  EXPECT_EQ(json["cached_tokens"], 8);
  EXPECT_EQ(json["queue_seconds"], 1.5);
}

TEST(RequestLog, LeavesAwayWhatThereIsNot) {
  const auto json = nlohmann::json::parse(RequestJson({.id = "r", .code = "OK"}));
  EXPECT_FALSE(json.contains("traceparent"));
  EXPECT_FALSE(json.contains("tenant"));
  EXPECT_FALSE(json.contains("reason"));
}

TEST(RequestLog, IsTextForPeople) {
  EXPECT_THAT(RequestText(Record()), HasSubstr("12 prompt (8 cached) + 3 generated tokens; queue 1.5s"));
}

TEST(Traceparent, IsOnlyWhatTheStandardSays) {
  EXPECT_TRUE(IsTraceparent(kTraceparent));
  EXPECT_TRUE(IsTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
  for (const char* wrong : {"", "00", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
                            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"}) {
    EXPECT_FALSE(IsTraceparent(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace lukv
