// The engine on an emulated CUDA device that fails, or has too little memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "tests/engine/emulated_device.h"
#include "tests/engine/engine_fixture.h"

namespace lukv {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options) {
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeBackend({.device = "cuda"}));
  return Engine::Create(GoldenPath("models/tiny/llama-group3"), std::move(backend), EndTokens(), options);
}

constexpr EngineOptions SmallOptions() { return {.kv_memory_bytes = 1 << 20, .page_tokens = 4, .prefill_chunk = 4}; }

// A failure of the runtime, a launch or cuBLASLt at every call that a request makes, one after the other: the request
// ends with a status, nothing is held, and the engine serves the next one as if nothing had happened.
TEST(EngineOnCuda, LivesOnAfterAFailureAtAnyCallOfTheDevice) {
  EmulatedDevice device;
  const int64_t before = device.LiveAllocations();
  {
    auto created = Create(SmallOptions());
    ASSERT_TRUE(created.ok()) << created.status();
    Engine& engine = **created;
    // Six tokens in two chunks, then decode steps: one as it comes, one recorded, one played back.
    const ValidRequest request = Greedy({1, 2, 3, 4, 5, 6}, 4);
    const std::vector<TokenId> expected = RunAlone(engine, request).tokens.at(0);
    const int64_t start = device.Calls();
    ASSERT_EQ(RunAlone(engine, request).tokens.at(0), expected);
    const int64_t calls = device.Calls() - start;
    int failures = 0;
    for (int call = 1; call <= calls; ++call) {
      device.FailAfter(call);
      const Result result = RunAlone(engine, request);
      device.FailAfter(0);
      ASSERT_TRUE(Eventually(engine, NothingHeld)) << "call " << call;
      if (result.status.ok()) {
        // It was a call on the way of giving memory back, or fewer calls were made: a recorded step is one call.
        EXPECT_EQ(result.tokens.at(0), expected) << "call " << call;
        continue;
      }
      ++failures;
      EXPECT_THAT(result.status.code(), AnyOf(absl::StatusCode::kInternal, absl::StatusCode::kResourceExhausted))
          << "call " << call << ": " << result.status;
      EXPECT_THAT(std::string(result.status.message()), AnyOf(HasSubstr("CUDA"), HasSubstr("cuBLASLt")))
          << "call " << call;
      if (call % 8 != 0) continue;
      ASSERT_EQ(RunAlone(engine, request).tokens.at(0), expected) << "call " << call;
    }
    EXPECT_GT(failures, 150);
    EXPECT_EQ(RunAlone(engine, request).tokens.at(0), expected);
  }
  EXPECT_STREQ(device.LastReport(), "");
  EXPECT_EQ(device.LiveAllocations(), before);
}

TEST(EngineOnCuda, FailuresWhileLoadingAreReportedAndLeakNothing) {
  EmulatedDevice device;
  const int64_t before = device.LiveAllocations();
  const int64_t start = device.Calls();
  auto engine = Create(SmallOptions());
  ASSERT_TRUE(engine.ok()) << engine.status();
  const int64_t calls = device.Calls() - start;
  engine->reset();
  ASSERT_GT(calls, 100);
  for (int call = 1; call <= calls; call += call < 50 ? 1 : 7) {
    device.FailAfter(call);
    const absl::Status status = Create(SmallOptions()).status();
    device.FailAfter(0);
    EXPECT_FALSE(status.ok()) << "call " << call;
    EXPECT_EQ(device.LiveAllocations(), before) << "call " << call;
  }
}

TEST(EngineOnCuda, FindsOtherAlgorithmsWhereTheChosenOneIsRefused) {
  EmulatedDevice device;
  const ValidRequest request = Greedy({1, 2, 3, 4, 5, 6}, 4);
  std::vector<TokenId> tokens[2];
  for (const bool narrow : {false, true}) {
    device.NarrowAlgorithms(narrow);
    auto engine = Create(SmallOptions());
    ASSERT_TRUE(engine.ok()) << engine.status();
    const Result result = RunAlone(**engine, request);
    EXPECT_TRUE(result.status.ok()) << result.status;
    tokens[narrow ? 1 : 0] = result.tokens.at(0);
  }
  device.NarrowAlgorithms(false);
  EXPECT_EQ(tokens[0], tokens[1]);
}

TEST(EngineOnCuda, AModelThatDoesNotFitIsRefusedWithTheSum) {
  EmulatedDevice device;
  device.SetMemory(size_t{1} << 20);
  const absl::Status refused = Create({.max_context = 64}).status();
  device.SetMemory(size_t{4} << 30);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_THAT(std::string(refused.message()), AnyOf(HasSubstr("does not fit"), HasSubstr("do not fit")));
}

TEST(EngineOnCuda, PagesTakeWhatIsLeftOfTheDevice) {
  EmulatedDevice device;
  device.SetMemory(size_t{3} << 30);
  auto engine = Create({.memory_utilization = 0.5});
  ASSERT_TRUE(engine.ok()) << engine.status();
  const MemoryPlan& plan = (*engine)->info().memory;
  EXPECT_GT(plan.pages, int64_t{1} << 29);
  EXPECT_LE(plan.sum(), int64_t{3} << 29);
  EXPECT_EQ((*engine)->Stats().pages_total, static_cast<uint32_t>(plan.n_pages));
  engine->reset();
  device.SetMemory(size_t{4} << 30);
}

}  // namespace
}  // namespace lukv
