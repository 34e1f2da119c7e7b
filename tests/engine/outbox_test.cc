#include "engine/outbox.h"

#include <gtest/gtest.h>

#include <thread>

namespace lukv {
namespace {

TokenId TokenOf(const Event& event) { return std::get<TokenEvent>(event).token; }

Event Token(TokenId id) { return TokenEvent{.sample = 0, .token = id}; }

TEST(Outbox, KeepsOrderAndWakesOnceUntilTaken) {
  int ready = 0;
  Outbox box(8, [&] { ++ready; });
  box.Push(Token(1));
  box.Push(Token(2));
  EXPECT_EQ(ready, 1);
  const std::vector<Event> events = box.Take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(TokenOf(events[0]), 1);
  EXPECT_EQ(TokenOf(events[1]), 2);
  EXPECT_TRUE(box.Take().empty());
  box.Push(Token(3));
  EXPECT_EQ(ready, 2);
}

TEST(Outbox, WakesAgainForTheLastEvent) {
  int ready = 0;
  Outbox box(8, [&] { ++ready; });
  box.Push(Token(1));
  EXPECT_EQ(box.Ended(), std::nullopt);
  box.Push(DoneEvent{.status = absl::AbortedError("slow")});
  EXPECT_EQ(ready, 2);
  EXPECT_EQ(box.Ended(), absl::AbortedError("slow"));
  EXPECT_EQ(box.Take().size(), 2u);
  EXPECT_EQ(box.Ended(), std::nullopt);
}

TEST(Outbox, CountsSpaceAgainstTheCapacity) {
  Outbox box(3, nullptr);
  box.Push(Token(1));
  EXPECT_TRUE(box.HasSpace(2));
  EXPECT_FALSE(box.HasSpace(3));
  box.Push(Token(2));
  box.Push(Token(3));
  EXPECT_FALSE(box.HasSpace(1));
}

TEST(Outbox, EmptyBoxHasSpaceForMoreThanItsCapacity) {
  Outbox box(2, nullptr);
  EXPECT_TRUE(box.HasSpace(5));
}

TEST(Outbox, AcceptsEndEventsWhenFull) {
  Outbox box(1, nullptr);
  box.Push(Token(1));
  ASSERT_FALSE(box.HasSpace(1));
  box.Push(FinishEvent{.sample = 0, .reason = FinishReason::kLength});
  box.Push(DoneEvent{});
  EXPECT_EQ(box.Take().size(), 3u);
}

TEST(Outbox, TellsOfSpaceOnlyAfterARefusalAndOnlyOnce) {
  Outbox box(2, nullptr);
  int space = 0;
  box.SetOnSpace([&] { ++space; });
  box.Push(Token(1));
  box.Take();
  EXPECT_EQ(space, 0);
  box.Push(Token(2));
  EXPECT_FALSE(box.HasSpace(2));
  box.Take();
  EXPECT_EQ(space, 1);
  box.Push(Token(3));
  box.Take();
  EXPECT_EQ(space, 1);
}

TEST(Outbox, WaitEndsAtTheDeadline) {
  Outbox box(2, nullptr);
  EXPECT_TRUE(box.WaitAndTake(absl::Now() + absl::Milliseconds(1)).empty());
}

TEST(OutboxDeathTest, RefusesEventsAfterDone) {
  Outbox box(2, nullptr);
  box.Push(DoneEvent{});
  EXPECT_DEATH(box.Push(Token(1)), "check failed");
}

// A producer that respects HasSpace and parks, a consumer that waits: all events arrive in order, and the box never
// holds more tokens than its capacity.
TEST(Outbox, CarriesAStreamBetweenThreadsWithinItsCapacity) {
  constexpr int kEvents = 20000;
  constexpr size_t kCapacity = 4;
  Outbox box(kCapacity, nullptr);
  Mutex mutex;
  bool space = false;
  box.SetOnSpace([&] {
    MutexLock lock(&mutex);
    space = true;
  });
  std::thread producer([&] {
    for (int i = 0; i < kEvents; ++i) {
      while (!box.HasSpace(1)) {
        MutexLock lock(&mutex);
        mutex.Await([&] { return space; });
        space = false;
      }
      box.Push(Token(i));
    }
    box.Push(DoneEvent{.status = absl::CancelledError("over")});
  });
  int next = 0;
  bool done = false;
  while (!done) {
    const std::vector<Event> events = box.WaitAndTake(absl::InfiniteFuture());
    EXPECT_LE(events.size(), kCapacity + 1);
    for (const Event& event : events) {
      if (const auto* end = std::get_if<DoneEvent>(&event)) {
        EXPECT_EQ(end->status.code(), absl::StatusCode::kCancelled);
        done = true;
      } else {
        ASSERT_EQ(TokenOf(event), next++);
      }
    }
  }
  producer.join();
  EXPECT_EQ(next, kEvents);
}

}  // namespace
}  // namespace lukv
