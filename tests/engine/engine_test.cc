// The engine with a tiny real model on the CPU backend: what every request is promised, whatever runs beside it.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/refusal.h"
#include "tests/engine/engine_fixture.h"
#include "tests/engine/faulty_backend.h"

namespace lukv {
namespace {

using ::testing::HasSubstr;

TEST(Engine, GeneratesUpToMaxTokensAndGivesItsPagesBack) {
  const auto engine = MakeEngine({.page_tokens = 4});
  const Result result = RunAlone(*engine, Greedy({1, 2, 3, 4, 5}, 9));
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.tokens.at(0).size(), 9u);
  EXPECT_EQ(result.finished.at(0).reason, FinishReason::kLength);
  EXPECT_EQ(result.usage.prompt_tokens, 5);
  EXPECT_EQ(result.usage.generated_tokens, 9);
  // The last token is never fed back: 5 + 8 entries per head.
  EXPECT_EQ(result.usage.kv_bytes_full, 13 * engine->info().kv_bytes_per_token);
  EXPECT_EQ(result.usage.kv_bytes_resident, 16 * engine->info().kv_bytes_per_token);
  EXPECT_TRUE(Eventually(*engine, NothingHeld));
  EXPECT_EQ(engine->Stats().generated_tokens, 9);
}

TEST(Engine, EndsAtEndTokensAndStopIds) {
  const auto engine = MakeEngine();
  const std::vector<TokenId> free_run = RunAlone(*engine, Greedy({3, 1, 4, 1, 5}, 20)).tokens.at(0);
  const TokenId stop = free_run[6];
  const size_t first = std::find(free_run.begin(), free_run.end(), stop) - free_run.begin();
  ValidRequest request = Greedy({3, 1, 4, 1, 5}, 20);
  request.stop_ids = {stop};
  const Result result = RunAlone(*engine, request);
  EXPECT_EQ(result.tokens.at(0), std::vector<TokenId>(free_run.begin(), free_run.begin() + first + 1));
  EXPECT_EQ(result.finished.at(0).reason, FinishReason::kStop);
  EXPECT_EQ(result.finished.at(0).stop_token, stop);

  // The model's own end token, pushed by a bias; ignore_eos goes past it, min_tokens masks it.
  ValidRequest biased = Greedy({3, 1, 4}, 5);
  biased.sampling.logit_bias = {{kEnd, 100.0f}};
  EXPECT_EQ(RunAlone(*engine, biased).tokens.at(0), std::vector<TokenId>(5, kEnd));
  biased.ignore_eos = false;
  EXPECT_EQ(RunAlone(*engine, biased).tokens.at(0), std::vector<TokenId>{kEnd});
  biased.min_tokens = 3;
  const Result masked = RunAlone(*engine, biased);
  ASSERT_EQ(masked.tokens.at(0).size(), 4u);
  EXPECT_EQ(masked.tokens.at(0).back(), kEnd);
  EXPECT_EQ(std::count(masked.tokens.at(0).begin(), masked.tokens.at(0).end(), kEnd), 1);
}

TEST(Engine, SamplesOfARequestDifferAndTheFirstIsTheOneOfNOne) {
  const auto engine = MakeEngine();
  ValidRequest request = Sampled({9, 8, 7, 6}, 12, 42);
  const Result one = RunAlone(*engine, request);
  request.n = 3;
  const Result three = RunAlone(*engine, request);
  ASSERT_EQ(three.tokens.size(), 3u);
  EXPECT_EQ(three.tokens.at(0), one.tokens.at(0));
  EXPECT_NE(three.tokens.at(1), three.tokens.at(0));
  EXPECT_NE(three.tokens.at(2), three.tokens.at(1));
  EXPECT_EQ(three.usage.generated_tokens, 36);
}

TEST(Engine, ReportsLogprobsOfTheChosenAndOfAlternatives) {
  const auto engine = MakeEngine();
  ValidRequest request = Greedy({5, 6, 7}, 4);
  request.logprobs = true;
  request.top_logprobs = 3;
  for (const TokenEvent& event : RunAlone(*engine, request).events) {
    ASSERT_EQ(event.alternatives.size(), 3u);
    EXPECT_EQ(event.alternatives[0].token, event.token);  // Greedy.
    EXPECT_EQ(event.alternatives[0].logprob, event.logprob);
    EXPECT_LT(event.logprob, 0);
    EXPECT_GE(event.alternatives[1].logprob, event.alternatives[2].logprob);
  }
}

TEST(Engine, ATokenDoesNotDependOnWhatRunsBeside) {
  std::vector<ValidRequest> requests;
  std::mt19937 random(11);
  for (int i = 0; i < 12; ++i) {
    std::vector<TokenId> prompt(1 + random() % 40);
    for (TokenId& id : prompt) id = static_cast<TokenId>(random() % 90);
    requests.push_back(Sampled(std::move(prompt), 1 + static_cast<int32_t>(random() % 30), random()));
  }
  std::vector<std::vector<TokenId>> alone;
  {
    const auto engine = MakeEngine({.page_tokens = 4, .prefill_chunk = 16});
    for (const ValidRequest& request : requests) alone.push_back(RunAlone(*engine, request).tokens.at(0));
  }
  const auto engine = MakeEngine({.page_tokens = 4, .max_sequences = 5, .prefill_chunk = 16});
  std::vector<std::shared_ptr<Outbox>> outboxes;
  for (const ValidRequest& request : requests) {
    outboxes.push_back(MakeOutbox());
    engine->Submit(request, outboxes.back());
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const Result result = Collect(*outboxes[i]);
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens.at(0), alone[i]) << "request " << i;
  }
}

TEST(Engine, CancellingFreesThePagesOfWaitingPrefillingAndRunningRequests) {
  const auto engine = MakeEngine({.max_sequences = 2, .prefill_chunk = 8});
  std::vector<std::shared_ptr<Outbox>> outboxes;
  std::vector<Ticket> tickets;
  for (int i = 0; i < 6; ++i) {
    outboxes.push_back(MakeOutbox(1));  // Never read: the running ones park, so none ends by itself.
    tickets.push_back(engine->Submit(Greedy(std::vector<TokenId>(60, 3), 60), outboxes.back()));
  }
  EXPECT_TRUE(Eventually(*engine, [](const EngineStats& s) { return s.running == 2 && s.generated_tokens >= 2; }));
  for (const Ticket ticket : tickets) engine->Cancel(ticket);
  for (const auto& outbox : outboxes) EXPECT_EQ(Collect(*outbox).status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(Eventually(*engine, NothingHeld));
  engine->Cancel(tickets[0]);  // Again, and one that never was: nothing happens.
  engine->Cancel(123456);
  EXPECT_TRUE(RunAlone(*engine, Greedy({1}, 2)).status.ok());
}

TEST(Engine, FinishEndsOneSampleAndCountsNoTokenAfterIt) {
  const auto engine = MakeEngine();
  const auto outbox = MakeOutbox(4);  // Parks after four events, so the sample is still running when Finish comes.
  ValidRequest request = Greedy({2, 3}, 60);
  const Ticket ticket = engine->Submit(request, outbox);
  EXPECT_TRUE(Eventually(*engine, [](const EngineStats& s) { return s.generated_tokens >= 3; }));
  engine->Finish(ticket, 0, 2);
  engine->Finish(ticket, 5, 1);  // No such sample.
  const Result result = Collect(*outbox);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.finished.at(0).reason, FinishReason::kStop);
  EXPECT_EQ(result.usage.generated_tokens, 2);
}

TEST(Engine, AFullOutboxParksItsRequestAndNoOther) {
  const auto engine = MakeEngine({.max_sequences = 2});
  const auto slow = MakeOutbox(3);
  engine->Submit(Greedy({4, 4, 4}, 50), slow);
  EXPECT_TRUE(Eventually(*engine, [](const EngineStats& s) { return s.generated_tokens >= 3; }));
  const Result other = RunAlone(*engine, Greedy({5, 5}, 50));
  EXPECT_EQ(other.tokens.at(0).size(), 50u);
  // The slow one has not moved.
  EXPECT_TRUE(Eventually(*engine, [](const EngineStats& s) { return s.generated_tokens == 53; }));
  EXPECT_EQ(Collect(*slow).tokens.at(0).size(), 50u);  // Reading wakes it up.
}

TEST(Engine, DeadlinesEndRequestsEvenWhenNothingElseHappens) {
  const auto engine = MakeEngine({.max_sequences = 1});
  const auto parked = MakeOutbox(1);
  ValidRequest request = Greedy({1, 2}, 60);
  request.deadline = absl::Now() + absl::Milliseconds(80);
  engine->Submit(request, parked);
  const auto waiting = MakeOutbox();
  engine->Submit(request, waiting);
  const Result result = Collect(*waiting);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(absl::Now(), request.deadline);
  EXPECT_EQ(Collect(*parked).status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(Eventually(*engine, NothingHeld));
}

TEST(Engine, RefusesWhatCanNeverFitWithTheSums) {
  // 120 - 1 entries are 30 pages in each head.
  const auto engine = MakeEngine({.kv_memory_bytes = 8 << 10, .page_tokens = 4});
  const uint32_t pages = engine->Stats().pages_total;
  const Result result = RunAlone(*engine, Greedy(std::vector<TokenId>(100, 1), 20));
  EXPECT_EQ(RefusalOf(result.status), Refusal::kNeverFits);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("can never fit: 1 x (100 prompt + 20 output tokens)"));
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("the server has " + std::to_string(pages)));

  ValidRequest many = Greedy({1}, 1);
  many.n = 1000;
  EXPECT_EQ(RefusalOf(RunAlone(*engine, many).status), Refusal::kNeverFits);
}

TEST(Engine, RefusesWhenTheQueueIsFull) {
  const auto engine = MakeEngine({.max_sequences = 1, .max_queued_requests = 2});
  const auto parked = MakeOutbox(1);
  const Ticket ticket = engine->Submit(Greedy({1}, 60), parked);
  EXPECT_TRUE(Eventually(*engine, [](const EngineStats& s) { return s.running == 1 && s.waiting == 0; }));
  const auto first = MakeOutbox(), second = MakeOutbox();
  engine->Submit(Greedy({1}, 1), first);
  engine->Submit(Greedy({1}, 1), second);
  EXPECT_EQ(RunAlone(*engine, Greedy({1}, 1)).status.code(), absl::StatusCode::kResourceExhausted);
  engine->Cancel(ticket);
  EXPECT_TRUE(Collect(*first).status.ok());
  EXPECT_TRUE(Collect(*second).status.ok());
}

TEST(Engine, DestructionEndsEveryRequest) {
  auto engine = MakeEngine({.max_sequences = 1});
  const auto running = MakeOutbox(1), waiting = MakeOutbox();
  engine->Submit(Greedy({1}, 60), running);
  engine->Submit(Greedy({1}, 60), waiting);
  EXPECT_TRUE(Eventually(*engine, [](const EngineStats& s) { return s.running == 1; }));
  engine.reset();
  EXPECT_EQ(Collect(*running).status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(Collect(*waiting).status.code(), absl::StatusCode::kCancelled);
}

TEST(Engine, OptionsAreChecked) {
  EXPECT_FALSE((EngineOptions{.kv_memory_bytes = -1}).Validate().ok());
  EXPECT_FALSE((EngineOptions{.kv_dtype = DType::kQ8_0}).Validate().ok());
  EXPECT_FALSE((EngineOptions{.page_tokens = 0}).Validate().ok());
  EXPECT_TRUE(EngineOptions{}.Validate().ok());

  const auto create = [](const std::string& model, EngineOptions options) {
    return Engine::Create(GoldenPath("models/tiny/" + model), MakeTestBackend({.threads = 1}), EndTokens(), options)
        .status();
  };
  const absl::Status tiny_pool = create("qwen2", {.kv_memory_bytes = 64});
  EXPECT_THAT(std::string(tiny_pool.message()), HasSubstr("one token of this model needs"));
  // A sliding window is served when it covers the context.
  const absl::Status window = create("mistral-window", {.kv_memory_bytes = 1 << 20});
  EXPECT_EQ(window.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(window.message()), HasSubstr("sliding window of 16"));
  EXPECT_TRUE(create("mistral-window", {.kv_memory_bytes = 1 << 20, .max_context = 16}).ok());
  EXPECT_TRUE(create("mistral-wide", {.kv_memory_bytes = 1 << 20}).ok());
  EXPECT_EQ(create("mistral-wide", {.kv_memory_bytes = 1 << 20, .max_context = 1 << 20}).code(),
            absl::StatusCode::kInvalidArgument);
}

// A failure of the device at every call that two requests make, one after the other: the requests in flight end with
// INTERNAL, nothing is held, and the engine serves the next request as if nothing had happened.
TEST(Engine, LivesOnAfterAFailureAtAnyCallOfTheBackend) {
  const auto countdown = std::make_shared<std::atomic<int>>(-1);
  auto created = Engine::Create(GoldenPath("models/tiny/llama-group3"),
                                std::make_unique<FaultyBackend>(MakeTestBackend({.threads = 1}), countdown),
                                EndTokens(), {.kv_memory_bytes = 1 << 20, .page_tokens = 4, .prefill_chunk = 4});
  ASSERT_TRUE(created.ok()) << created.status();
  Engine& engine = **created;
  const std::vector<TokenId> expected = RunAlone(engine, Greedy({1, 2, 3, 4, 5, 6}, 3)).tokens.at(0);
  int failures = 0;
  for (int call = 0;; ++call) {
    *countdown = call;
    const Result result = RunAlone(engine, Greedy({1, 2, 3, 4, 5, 6}, 3));
    if (*countdown >= 0) {  // The request made fewer calls than that.
      EXPECT_TRUE(result.status.ok()) << result.status;
      break;
    }
    ++failures;
    ASSERT_EQ(result.status.code(), absl::StatusCode::kInternal) << "call " << call;
    ASSERT_THAT(std::string(result.status.message()), HasSubstr("injected"));
    ASSERT_TRUE(Eventually(engine, NothingHeld)) << "call " << call;
    ASSERT_EQ(RunAlone(engine, Greedy({1, 2, 3, 4, 5, 6}, 3)).tokens.at(0), expected) << "call " << call;
  }
  EXPECT_GT(failures, 60);  // Two layers of prefill in two chunks and two decode steps.
}

// Random submits, cancels, finishes, deadlines and slow readers from several threads on a pool that holds few of them:
// every request ends exactly once, nothing is held afterwards.
TEST(Engine, SurvivesRandomUse) {
  for (uint32_t seed = 0; seed < 3; ++seed) {
    const auto engine = MakeEngine({.kv_memory_bytes = 200 << 10,
                                    .page_tokens = 3,
                                    .max_sequences = 4,
                                    .max_queued_requests = 20,
                                    .prefill_chunk = 11});
    std::atomic<int> ended = 0;
    std::vector<std::thread> clients;
    for (uint32_t c = 0; c < 3; ++c) {
      clients.emplace_back([&, c] {
        std::mt19937 random(seed * 10 + c);
        for (int i = 0; i < 40; ++i) {
          ValidRequest request = Sampled(std::vector<TokenId>(1 + random() % 50, static_cast<TokenId>(random() % 90)),
                                         1 + static_cast<int32_t>(random() % 20), random());
          request.n = 1 + static_cast<int32_t>(random() % 3);
          if (random() % 4 == 0) request.deadline = absl::Now() + absl::Milliseconds(random() % 20);
          const auto outbox = MakeOutbox(1 + random() % 4);
          const Ticket ticket = engine->Submit(request, outbox);
          if (random() % 3 == 0) absl::SleepFor(absl::Microseconds(random() % 3000));
          if (random() % 3 == 0) engine->Finish(ticket, static_cast<int32_t>(random() % 3), 1);
          if (random() % 3 == 0) engine->Cancel(ticket);
          const Result result = Collect(*outbox);
          if (result.status.ok()) {
            EXPECT_EQ(result.finished.size(), static_cast<size_t>(request.n));
          }
          ++ended;
        }
      });
    }
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(ended, 120);
    EXPECT_TRUE(Eventually(*engine, NothingHeld));
  }
}

}  // namespace
}  // namespace lukv
