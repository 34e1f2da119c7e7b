#include "server/status_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "server/request_table.h"
#include "tests/server/http_get.h"

namespace lukv {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(StatusPage, ServesItsPagesAndNothingElse) {
  const auto page = StatusPage::Listen(
      "127.0.0.1:0", {{"/a", {"text/plain", [] { return "one\n"; }}}, {"/b", {"text/plain", [] { return "two\n"; }}}});
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(HttpGet((*page)->address(), "/a"), "one\n");
  EXPECT_EQ(HttpGet((*page)->address(), "/b"), "two\n");
  for (const char* path : {"/", "/a/b", "/c", "/../etc/passwd"}) {
    EXPECT_THAT(HttpGet((*page)->address(), path), HasSubstr("404")) << path;
  }
  const auto taken = StatusPage::Listen((*page)->address(), {});
  EXPECT_EQ(taken.status().code(), absl::StatusCode::kUnavailable);
}

TEST(RequestTable, HasALineForEachRequest) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  const std::string table = RequestTable({{.id = "r1",
                                           .state = "decode",
                                           .priority = -3,
                                           .prompt_tokens = 12,
                                           .generated_tokens = 7,
                                           .samples = 2,
                                           .pages = 30,
                                           .policy = "full",
                                           .submitted = now - absl::Milliseconds(1500)},
                                          {.id = "r2", .tenant = "team", .state = "waiting", .submitted = now}},
                                         now);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
  EXPECT_THAT(table, HasSubstr("r1"));
  EXPECT_THAT(table, HasSubstr("1.50"));
  EXPECT_THAT(table, HasSubstr("team"));
  EXPECT_THAT(table, Not(HasSubstr("%")));
}

}  // namespace
}  // namespace lukv
