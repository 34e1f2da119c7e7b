#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace lukv {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryTaskOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (const int64_t n : {0, 1, 2, 3, 17, 1000}) {
    std::vector<int> runs(static_cast<size_t>(n));  // Not atomic: a task that runs twice is a race that TSan reports.
    pool.ParallelFor(n, [&](int64_t task, int thread) {
      ASSERT_GE(thread, 0);
      ASSERT_LT(thread, GetParam());
      ++runs[static_cast<size_t>(task)];
    });
    EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(n), 1));
  }
}

// What a loop wrote is seen by the next one, whoever runs it, through thousands of short loops.
TEST_P(ThreadPoolTest, LoopsFollowEachOther) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> a(64, 1);
  std::vector<int64_t> b(64, 0);
  for (int loop = 0; loop < 2000; ++loop) {
    pool.ParallelFor(64, [&](int64_t task, int) {
      const size_t i = static_cast<size_t>(task);
      b[i] = a[63 - i] + 1;
    });
    std::swap(a, b);
  }
  EXPECT_EQ(a, std::vector<int64_t>(64, 2001));
}

TEST_P(ThreadPoolTest, WakesAfterSleep) {
  ThreadPool pool(GetParam());
  int64_t sum = 0;
  for (int loop = 0; loop < 5; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // Far beyond the spin: workers sleep now.
    std::vector<int64_t> part(static_cast<size_t>(GetParam()));
    pool.ParallelFor(100, [&](int64_t task, int thread) { part[static_cast<size_t>(thread)] += task; });
    for (const int64_t p : part) sum += p;
  }
  EXPECT_EQ(sum, 5 * 4950);
}

// A thread that is busy with a long task does not keep the others from the rest.
TEST(ThreadPool, UnevenTasksBalance) {
  ThreadPool pool(2);
  std::atomic<int> done{0};
  pool.ParallelFor(10, [&](int64_t task, int) {
    if (task == 0) {
      // Ends only because the other thread does tasks 1 to 9.
      while (done.load() < 9) std::this_thread::yield();
    } else {
      done.fetch_add(1);
    }
  });
  EXPECT_EQ(done.load(), 9);
}

TEST(ThreadPool, ComesAndGoesWithoutWork) {
  for (int i = 0; i < 20; ++i) ThreadPool pool(3);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 7));

}  // namespace
}  // namespace lukv
