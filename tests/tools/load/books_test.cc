#include "tools/load/books.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/load/records.h"

namespace lukv {
namespace {

std::vector<std::string> Unbalanced(const std::vector<BookLine>& books) {
  std::vector<std::string> names;
  for (const BookLine& line : books) {
    if (!line.balances()) names.push_back(line.name);
  }
  return names;
}

// Two answers of 3 tokens, a refusal, a deadline that the server told, a client that cancelled after 2 tokens.
LoadRun SampleRun() {
  return RunOf(
      {OkRecord(0, 0, {1, 2, 3}), OkRecord(1, 0, {1, 2, 3}), EndedRecord(2, Ending::kRefused, true, "QUEUE_FULL"),
       EndedRecord(3, Ending::kDeadline, true, "DEADLINE_EXCEEDED", 1),
       EndedRecord(4, Ending::kCancelled, false, "CANCELLED", 2)},
      10);
}

ServerReading Before() {
  return {.generated_tokens = 1000, .ended = {{"stop", 1}, {"length", 50}, {"abort", 2}}, .refused = {{"deadline", 4}}};
}

ServerReading After() {
  ServerReading after = Before();
  *after.generated_tokens += 3 + 3 + 1 + 2;
  after.ended["length"] += 2;
  after.ended["abort"] += 2;
  after.refused["queue_full"] = 1;
  return after;
}

TEST(Books, Balance) { EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), After())), testing::ElementsAre()); }

TEST(Books, WhoWasGoneMayHaveEndedInAnyWay) {
  ServerReading finished = After();  // The cancelled one.
  finished.ended["abort"] -= 1;
  finished.ended["length"] += 1;
  *finished.generated_tokens += 7;
  EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), finished)), testing::ElementsAre());
  ServerReading never_seen = After();
  never_seen.ended["abort"] -= 1;
  EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), never_seen)), testing::ElementsAre());
}

TEST(Books, MissWhatTheServerForgot) {
  ServerReading forgot = After();
  forgot.ended["length"] -= 1;
  forgot.ended["abort"] -= 1;
  EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), forgot)),
              testing::ElementsAre("server: requests seen", "server: ended by stop or length"));
}

TEST(Books, MissWhatTheServerCountedTwice) {
  ServerReading twice = After();
  twice.refused["queue_full"] += 2;
  EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), twice)),
              testing::ElementsAre("server: requests seen", "server: refused"));
  ServerReading failed = After();
  failed.ended["error"] += 2;
  EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), failed)),
              testing::ElementsAre("server: requests seen", "server: failed"));
}

TEST(Books, MissTokensThatNobodyMade) {
  ServerReading few = After();
  *few.generated_tokens -= 1;
  EXPECT_THAT(Unbalanced(CheckBooks(SampleRun(), Before(), few)), testing::ElementsAre("server: tokens generated"));
  // With answers alone the sums are equal.
  const LoadRun answers = RunOf({OkRecord(0, 0, {1, 2, 3})}, 10);
  ServerReading more = Before();
  *more.generated_tokens += 4;
  more.ended["length"] += 1;
  EXPECT_THAT(Unbalanced(CheckBooks(answers, Before(), more)), testing::ElementsAre("server: tokens generated"));
}

TEST(Books, CountTheIntruder) {
  LoadRun run = SampleRun();
  run.intruder = OkRecord(-1, 0, {1});
  EXPECT_THAT(Unbalanced(CheckBooks(run, Before(), After())), testing::Not(testing::IsEmpty()));
  ServerReading after = After();
  after.ended["length"] += 1;
  *after.generated_tokens += 1;
  EXPECT_THAT(Unbalanced(CheckBooks(run, Before(), after)), testing::ElementsAre());
}

TEST(Books, EveryRequestEndsOnce) {
  EXPECT_TRUE(CheckEndings(SampleRun()).balances());
  LoadRun lost = SampleRun();
  lost.records.pop_back();
  EXPECT_FALSE(CheckEndings(lost).balances());
  LoadRun twice = SampleRun();
  twice.records.back().index = 0;
  EXPECT_FALSE(CheckEndings(twice).balances());
}

}  // namespace
}  // namespace lukv
