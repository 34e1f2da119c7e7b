#include "engine/schedule/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

PlanInput Free() { return {.free_slots = 8, .free_pages = 1000, .prefill_chunk = 100}; }

TEST(Plan, NothingToDoIsNothingDone) {
  const StepPlan plan = Plan(Free());
  EXPECT_THAT(plan.admit, IsEmpty());
  EXPECT_THAT(plan.decode, IsEmpty());
  EXPECT_THAT(plan.preempt, IsEmpty());
}

TEST(Plan, ALongPromptGoesAloneShortOnesTogether) {
  PlanInput input = Free();
  input.waiting = {{.tokens = 500, .slots = 1, .pages = 5}, {.tokens = 5, .slots = 1, .pages = 1}};
  EXPECT_THAT(Plan(input).admit, ElementsAre(0));
  input.waiting = {{.tokens = 50, .slots = 1, .pages = 5},
                   {.tokens = 50, .slots = 1, .pages = 1},
                   {.tokens = 1, .slots = 1, .pages = 1}};
  EXPECT_THAT(Plan(input).admit, ElementsAre(0, 1));
}

TEST(Plan, ALongGroupAndAShortOneMayBeUnderWay) {
  PlanInput input = Free();
  input.waiting = {{.tokens = 500, .slots = 1, .pages = 5}, {.tokens = 5, .slots = 1, .pages = 1}};
  input.short_prefill = true;
  EXPECT_THAT(Plan(input).admit, ElementsAre(0));
  input.long_prefill = true;
  EXPECT_THAT(Plan(input).admit, IsEmpty());
  input.short_prefill = false;
  EXPECT_THAT(Plan(input).admit, IsEmpty());  // First come, first served.
  input.waiting.erase(input.waiting.begin());
  EXPECT_THAT(Plan(input).admit, ElementsAre(0));
}

TEST(Plan, WhoDoesNotFitHoldsBackThoseBehind) {
  PlanInput input = Free();
  input.free_pages = 10;
  input.waiting = {{.tokens = 5, .slots = 1, .pages = 11}, {.tokens = 5, .slots = 1, .pages = 1}};
  EXPECT_THAT(Plan(input).admit, IsEmpty());
  input.reclaimable = 1;
  EXPECT_THAT(Plan(input).admit, ElementsAre(0));
  input.free_slots = 1;
  input.waiting[0].slots = 2;
  EXPECT_THAT(Plan(input).admit, IsEmpty());
}

TEST(Plan, WhoWaitsForItsContextHoldsNobodyBack) {
  PlanInput input = Free();
  input.waiting = {{.tokens = 5, .slots = 1, .pages = 2000, .held_back = true}, {.tokens = 5, .slots = 1, .pages = 1}};
  EXPECT_THAT(Plan(input).admit, ElementsAre(1));
}

TEST(Plan, TheLastGivesWayWhenPagesRunOut) {
  PlanInput input = Free();
  input.free_pages = 3;
  input.running = {{.rows = 1, .top_up = 2}, {.rows = 2, .top_up = 4}, {.rows = 0}, {.rows = 1, .top_up = 1}};
  input.held = {10, 10, 1, 2};
  input.waiting = {{.tokens = 5, .slots = 1, .pages = 1}};
  const StepPlan plan = Plan(input);
  EXPECT_THAT(plan.preempt, ElementsAre(3, 2));  // 1 + 2 + 1 for the 4 of the second.
  EXPECT_THAT(plan.decode, ElementsAre(0, 1));
  EXPECT_THAT(plan.admit, IsEmpty());
}

TEST(Plan, WhoStandsLastGivesWayItself) {
  PlanInput input = Free();
  input.free_pages = 0;
  input.running = {{.rows = 1}, {.rows = 1, .top_up = 1}};
  input.held = {10, 10};
  const StepPlan plan = Plan(input);
  EXPECT_THAT(plan.preempt, ElementsAre(1));
  EXPECT_THAT(plan.decode, ElementsAre(0));
}

// Random inputs: what a plan may never do.
TEST(Plan, KeepsItsPromisesOnRandomInputs) {
  std::mt19937 random(7);
  const auto below = [&](uint32_t n) { return static_cast<int32_t>(random() % n); };
  for (int i = 0; i < 20000; ++i) {
    PlanInput input{.free_slots = below(6),
                    .free_pages = static_cast<uint32_t>(random() % 40),
                    .reclaimable = static_cast<uint32_t>(random() % 10),
                    .prefill_chunk = 1 + below(100),
                    .long_prefill = below(3) == 0,
                    .short_prefill = below(3) == 0};
    for (int n = below(6); n > 0; --n) {
      input.waiting.push_back({.tokens = 1 + below(150),
                               .slots = 1 + below(3),
                               .pages = static_cast<uint32_t>(random() % 30),
                               .held_back = below(5) == 0});
    }
    for (int n = below(6); n > 0; --n) {
      input.running.push_back({.rows = below(3), .top_up = static_cast<uint32_t>(random() % 12)});
      input.held.push_back(random() % 12);
    }
    const StepPlan plan = Plan(input);

    int64_t available = int64_t{input.free_pages} + input.reclaimable;
    const std::set<int32_t> gone(plan.preempt.begin(), plan.preempt.end());
    ASSERT_EQ(gone.size(), plan.preempt.size());
    for (const int32_t r : plan.preempt) available += input.held[r];
    for (const int32_t r : plan.decode) {
      ASSERT_FALSE(gone.contains(r));
      ASSERT_GT(input.running[r].rows, 0);
      available -= input.running[r].top_up;
    }
    ASSERT_GE(available, 0);
    ASSERT_TRUE(std::is_sorted(plan.decode.begin(), plan.decode.end()));
    // Only the last give way, only if somebody asked for pages, and everybody else who can decodes.
    for (size_t r = 0; r < input.running.size(); ++r) {
      const bool decodes = std::find(plan.decode.begin(), plan.decode.end(), r) != plan.decode.end();
      const bool gave_way = gone.contains(static_cast<int32_t>(r));
      ASSERT_EQ(decodes, !gave_way && input.running[r].rows > 0);
      if (gave_way) {
        for (size_t later = r; later < input.running.size(); ++later) ASSERT_TRUE(gone.contains(later));
      }
    }
    if (!plan.preempt.empty()) {
      ASSERT_THAT(plan.admit, IsEmpty());
    }
    int32_t tokens = 0;
    int32_t slots = 0;
    for (const int32_t w : plan.admit) {
      ASSERT_FALSE(input.waiting[w].held_back);
      tokens += input.waiting[w].tokens;
      slots += input.waiting[w].slots;
      available -= input.waiting[w].pages;
    }
    ASSERT_GE(available, 0);
    ASSERT_LE(slots, input.free_slots);
    ASSERT_TRUE(plan.admit.size() <= 1 || tokens <= input.prefill_chunk);
    if (!plan.admit.empty()) {
      ASSERT_FALSE(tokens > input.prefill_chunk ? input.long_prefill : input.short_prefill);
      // Nobody is passed over but those who are held back.
      for (int32_t w = 0; w < plan.admit.back(); ++w) {
        ASSERT_TRUE(input.waiting[w].held_back ||
                    std::find(plan.admit.begin(), plan.admit.end(), w) != plan.admit.end());
      }
    }
  }
}

TEST(Plan, TheFirstInLineIsAdmittedWhereverItFits) {
  std::mt19937 random(8);
  for (int i = 0; i < 2000; ++i) {
    PlanInput input = Free();
    input.waiting = {{.tokens = 1 + static_cast<int32_t>(random() % 300),
                      .slots = 1 + static_cast<int32_t>(random() % 8),
                      .pages = static_cast<uint32_t>(random() % 1001)}};
    EXPECT_THAT(Plan(input).admit, ElementsAre(0));
  }
}

TEST(PrefillTime, LeavesTokensAtHalfTheirPaceAtWorst) {
  EXPECT_LE(PrefillTime(absl::Milliseconds(10), absl::ZeroDuration()), absl::Milliseconds(10));
  EXPECT_GE(PrefillTime(absl::Milliseconds(10), absl::ZeroDuration()), absl::Milliseconds(5));
  EXPECT_EQ(PrefillTime(absl::Milliseconds(10), absl::Milliseconds(25)), absl::Milliseconds(15));
  EXPECT_EQ(PrefillTime(absl::Milliseconds(30), absl::Milliseconds(25)), absl::ZeroDuration());
}

TEST(UnitRows, AreAsManyAsFitInWholeTiles) {
  const auto expect = [](int32_t rows) { return absl::Milliseconds(1) + rows * absl::Microseconds(100); };
  for (int32_t most = 1; most < 400; ++most) {
    for (int32_t ms = 0; ms < 50; ++ms) {
      const int32_t rows = UnitRows(most, absl::Milliseconds(ms), expect);
      ASSERT_GE(rows, 1);
      ASSERT_LE(rows, most);
      ASSERT_TRUE(rows % kUnitTile == 0 || rows == most);
      ASSERT_TRUE(expect(rows) <= absl::Milliseconds(ms) || rows == std::min(most, kUnitTile));
      if (rows < most) {
        ASSERT_GT(expect(std::min(most, rows + kUnitTile)), absl::Milliseconds(ms));
      }
    }
  }
}

}  // namespace
}  // namespace lukv
