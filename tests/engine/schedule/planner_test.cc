#include "engine/schedule/planner.h"

#include <gtest/gtest.h>

#include <random>

namespace lukv {
namespace {

PlanInput Free() { return {.free_slots = 8, .uncommitted_pages = 1000, .prefill_chunk = 100}; }

TEST(Plan, NothingToDoIsIdle) { EXPECT_TRUE(Plan(Free()).idle()); }

TEST(Plan, DecodesWhileAPromptIsPrefilled) {
  PlanInput input = Free();
  input.prefilling = true;
  input.decodable = 3;
  input.waiting = {{.tokens = 1, .slots = 1, .pages = 1}};
  const StepPlan plan = Plan(input);
  EXPECT_TRUE(plan.decode);
  EXPECT_TRUE(plan.prefill_unit);
  EXPECT_EQ(plan.admit, 0);  // The next group waits for this one.
}

TEST(Plan, ALongPromptGoesAloneShortOnesTogether) {
  PlanInput input = Free();
  input.waiting = {{.tokens = 500, .slots = 1, .pages = 5}, {.tokens = 5, .slots = 1, .pages = 1}};
  EXPECT_EQ(Plan(input).admit, 1);
  input.waiting = {{.tokens = 50, .slots = 1, .pages = 5},
                   {.tokens = 50, .slots = 1, .pages = 1},
                   {.tokens = 1, .slots = 1, .pages = 1}};
  EXPECT_EQ(Plan(input).admit, 2);
}

TEST(Plan, ARequestThatDoesNotFitHoldsBackThoseBehindIt) {
  PlanInput input = Free();
  input.uncommitted_pages = 10;
  input.waiting = {{.tokens = 5, .slots = 1, .pages = 11}, {.tokens = 5, .slots = 1, .pages = 1}};
  EXPECT_TRUE(Plan(input).idle());
  input.uncommitted_pages = 1000;
  input.free_slots = 2;
  input.waiting = {{.tokens = 5, .slots = 3, .pages = 1}, {.tokens = 5, .slots = 1, .pages = 1}};
  EXPECT_TRUE(Plan(input).idle());
}

// Whatever the input: what is admitted fits, and the first request is admitted whenever it can be.
TEST(Plan, NeverOvercommitsNorForgetsTheFirst) {
  std::mt19937 random(5);
  const auto up_to = [&](uint32_t n) { return static_cast<int32_t>(random() % (n + 1)); };
  for (int round = 0; round < 20000; ++round) {
    PlanInput input{.free_slots = up_to(6),
                    .uncommitted_pages = static_cast<uint32_t>(up_to(40)),
                    .prefill_chunk = 1 + up_to(50),
                    .prefilling = up_to(3) == 0,
                    .decodable = up_to(2)};
    for (int32_t i = up_to(5); i > 0; --i) {
      input.waiting.push_back(
          {.tokens = 1 + up_to(60), .slots = 1 + up_to(3), .pages = static_cast<uint32_t>(1 + up_to(25))});
    }
    const StepPlan plan = Plan(input);
    ASSERT_EQ(plan.decode, input.decodable > 0);
    ASSERT_EQ(plan.prefill_unit, input.prefilling || plan.admit > 0);
    ASSERT_LE(plan.admit, static_cast<int32_t>(input.waiting.size()));
    int64_t slots = 0, pages = 0, tokens = 0;
    for (int32_t i = 0; i < plan.admit; ++i) {
      slots += input.waiting[static_cast<size_t>(i)].slots;
      pages += input.waiting[static_cast<size_t>(i)].pages;
      tokens += input.waiting[static_cast<size_t>(i)].tokens;
    }
    ASSERT_LE(slots, input.free_slots);
    ASSERT_LE(pages, input.uncommitted_pages);
    if (plan.admit > 1) {
      ASSERT_LE(tokens, input.prefill_chunk);
    }
    if (!input.prefilling && !input.waiting.empty() && plan.admit == 0) {
      ASSERT_TRUE(input.waiting[0].slots > input.free_slots || input.waiting[0].pages > input.uncommitted_pages);
    }
  }
}

}  // namespace
}  // namespace lukv
