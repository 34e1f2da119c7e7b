// Admission, preemption, contexts, priorities and timeouts, on a tiny real model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "engine/engine_core.h"
#include "engine/refusal.h"
#include "tests/engine/engine_fixture.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A time that tests set.
class ManualClock final : public Clock {
 public:
  absl::Time Now() const override { return now_ += tick_; }
  void Advance(absl::Duration time) { now_ += time; }
  void SetTick(absl::Duration tick) { tick_ = tick; }  // That passes each time somebody looks.

 private:
  absl::Duration tick_;
  mutable absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

// The engine without its thread, step by step.
class Serving : public testing::Test {
 protected:
  struct Running {
    Ticket ticket = 0;
    std::shared_ptr<Outbox> outbox;
    Result result;
    bool done = false;
  };

  void Start(EngineOptions options) {
    options.kv_memory_bytes = std::min<int64_t>(options.kv_memory_bytes, int64_t{4} << 20);
    absl::StatusOr<EngineParts> parts =
        MakeEngineParts(GoldenPath("models/tiny/llama-group3"), MakeTestBackend({.threads = 1}), options);
    ASSERT_TRUE(parts.ok()) << parts.status();
    if (core_ != nullptr) core_->EndAll(absl::CancelledError("restart"));
    core_ = std::make_unique<EngineCore>(*std::move(parts), std::vector<TokenId>{kEnd}, options, clock_);
  }
  void TearDown() override {
    if (core_ != nullptr) core_->EndAll(absl::CancelledError("the end"));
  }

  Running& Submit(ValidRequest request, size_t capacity = 100000) {
    runs_.push_back(std::make_unique<Running>(Running{.ticket = next_ticket_++, .outbox = MakeOutbox(capacity)}));
    core_->Submit(runs_.back()->ticket, std::move(request), runs_.back()->outbox);
    Read(*runs_.back());
    return *runs_.back();
  }

  static void Read(Running& run) {
    for (const Event& event : run.outbox->Take()) {
      ASSERT_FALSE(run.done);
      if (const auto* token = std::get_if<TokenEvent>(&event)) {
        run.result.tokens[token->sample].push_back(token->token);
      } else if (const auto* finish = std::get_if<FinishEvent>(&event)) {
        run.result.finished.emplace(finish->sample, *finish);
      } else {
        run.result.status = std::get<DoneEvent>(event).status;
        run.result.usage = std::get<DoneEvent>(event).usage;
        run.done = true;
      }
    }
  }

  bool Step() {
    const bool worked = core_->Step();
    clock_.Advance(absl::Milliseconds(1));
    for (const auto& run : runs_) Read(*run);
    return worked;
  }
  void RunAll() {
    for (int i = 0; Step(); ++i) ASSERT_LT(i, 100000);
  }
  Result Run(ValidRequest request) {
    Running& run = Submit(std::move(request));
    for (int i = 0; !run.done; ++i) {
      EXPECT_TRUE(Step());
      if (i > 100000) break;
    }
    return run.result;
  }

  std::shared_ptr<const EvictionPlan> MakePlan(const std::string& policy, int32_t tokens) const {
    const absl::StatusOr<Policy> parsed = ParsePolicy(policy);
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    auto plan = core_->MakePlan(*parsed, tokens);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *plan;
  }
  // A context of so many tokens, and a question of 3.
  ValidRequest Ask(int32_t context, TokenId question, int32_t max_tokens, const std::string& policy = "full") {
    std::vector<TokenId> prompt;
    for (int32_t i = 0; i < context; ++i) prompt.push_back(10 + (i * 7 + i / 5) % 80);
    prompt.insert(prompt.end(), {question, 11, 12});
    ValidRequest request = Sampled(prompt, max_tokens, 5);
    request.plan = MakePlan(policy, context);
    request.shared_context = SharedContextUse{.n_tokens = context};
    return request;
  }
  uint32_t PagesUsed() const { return core_->Stats().pages_used; }

  ManualClock clock_;
  std::unique_ptr<EngineCore> core_;
  std::vector<std::unique_ptr<Running>> runs_;
  Ticket next_ticket_ = 1;
};

std::vector<TokenId> Prompt(int32_t n, TokenId first) {
  std::vector<TokenId> prompt;
  for (int32_t i = 0; i < n; ++i) prompt.push_back(first + i % 60);
  return prompt;
}

constexpr char kPolicies[][32] = {"full", "uniform+keydiff@0.5", "adakv+snapkv@0.6", "uniform+expected_attention@0.7"};

TEST_F(Serving, PreemptedRequestsGiveTheTokensTheyWouldHaveGiven) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4, .min_evicted_context = 16});
  std::vector<ValidRequest> requests;
  for (int i = 0; i < 6; ++i) {
    ValidRequest request = Sampled(Prompt(30 + 5 * i, 8 + i), 60, 100 + i);
    request.plan = MakePlan(kPolicies[i % 4], 25);
    request.n = i % 3 + 1;
    request.sampling.repetition_penalty = 1.1f;
    requests.push_back(request);
  }
  std::vector<Result> alone;
  for (const ValidRequest& request : requests) alone.push_back(Run(request));
  const int64_t page_bytes = core_->Stats().page_bytes;
  const int64_t heads = core_->info().kv_bytes_per_token * 4 / page_bytes;

  // Room for the largest alone, and little more.
  for (const int64_t pages : {60 * heads, 75 * heads, 90 * heads}) {
    Start(
        {.kv_memory_bytes = pages * page_bytes, .page_tokens = 4, .generation_reserve = 8, .min_evicted_context = 16});
    std::vector<Running*> runs;
    for (const ValidRequest& request : requests) runs.push_back(&Submit(request));
    RunAll();
    int32_t preemptions = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      ASSERT_TRUE(runs[i]->done);
      EXPECT_EQ(runs[i]->result.status, absl::OkStatus());
      EXPECT_EQ(runs[i]->result.tokens, alone[i].tokens) << i << " with " << pages << " pages";
      EXPECT_EQ(runs[i]->result.usage.generated_tokens, alone[i].usage.generated_tokens);
      preemptions += runs[i]->result.usage.preemptions;
    }
    EXPECT_GT(preemptions, 0) << pages;
    EXPECT_EQ(core_->Stats().preemptions, preemptions);
    EXPECT_EQ(runs[0]->result.usage.preemptions, 0);  // The first one never gives way.
    EXPECT_EQ(PagesUsed(), 0u);
  }
}

TEST_F(Serving, TheNewestOfTheLowestPriorityGivesWay) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  const int64_t page_bytes = core_->Stats().page_bytes;
  const int32_t heads = static_cast<int32_t>(core_->info().kv_bytes_per_token * 4 / page_bytes);
  // Three of 20 + 40 tokens need 45 pages a head.
  Start({.kv_memory_bytes = 40 * heads * page_bytes, .page_tokens = 4, .generation_reserve = 4});
  ValidRequest request = Greedy(Prompt(20, 9), 40);
  request.priority = 1;
  Running& low_old = Submit(Greedy(Prompt(20, 9), 40));
  Running& high = Submit(request);
  clock_.Advance(absl::Milliseconds(5));
  Running& low_new = Submit(Greedy(Prompt(20, 30), 40));
  RunAll();
  EXPECT_EQ(high.result.usage.preemptions, 0);
  EXPECT_EQ(low_old.result.usage.preemptions, 0);
  EXPECT_GT(low_new.result.usage.preemptions, 0);
}

TEST_F(Serving, AContextIsComputedOnceAndSharedFromThenOn) {
  for (const char* policy : kPolicies) {
    Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4, .share_contexts = false});
    const Result first = Run(Ask(50, 20, 12, policy));
    const Result second = Run(Ask(50, 21, 12, policy));
    EXPECT_EQ(second.usage.cached_tokens, 0);
    EXPECT_NE(first.tokens, second.tokens);

    Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
    EXPECT_EQ(Run(Ask(50, 20, 12, policy)).tokens, first.tokens) << policy;
    EXPECT_EQ(core_->Stats().contexts, 1);
    EXPECT_EQ(PagesUsed(), 0u);  // What is there gives way.
    EXPECT_GT(core_->Stats().pages_reclaimable, 0u);
    const Result hit = Run(Ask(50, 21, 12, policy));
    EXPECT_EQ(hit.usage.cached_tokens, 50);
    EXPECT_EQ(hit.tokens, second.tokens) << policy;
    EXPECT_EQ(hit.usage.kept.size(), second.usage.kept.size());
    EXPECT_EQ(core_->Stats().cache_hit_tokens, 50);
    EXPECT_EQ(core_->Stats().cache_query_tokens, 100);
    // Again, by several at a time.
    std::vector<Running*> together;
    for (int i = 0; i < 4; ++i) together.push_back(&Submit(Ask(50, 20 + i % 2, 12, policy)));
    RunAll();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(together[i]->result.tokens, i % 2 == 0 ? first.tokens : second.tokens);
  }
}

TEST_F(Serving, RequestsThatComeTogetherComputeTheirContextOnce) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  std::vector<Running*> together;
  for (int i = 0; i < 5; ++i) together.push_back(&Submit(Ask(50, 20 + i, 6)));
  RunAll();
  EXPECT_EQ(core_->Stats().cache_hit_tokens, 4 * 50);
  EXPECT_EQ(together[0]->result.usage.cached_tokens, 0);
}

TEST_F(Serving, OneTenantNeverFindsAnothersContext) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  ValidRequest mine = Ask(50, 20, 4);
  mine.tenant = "a";
  Run(mine);
  ValidRequest theirs = mine;
  theirs.tenant = "b";
  EXPECT_EQ(Run(theirs).usage.cached_tokens, 0);
  EXPECT_EQ(Run(theirs).usage.cached_tokens, 50);
  EXPECT_EQ(core_->Stats().contexts, 2);
}

TEST_F(Serving, OtherTokensOrAnotherPolicyAreAnotherContext) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4, .min_evicted_context = 16});
  Run(Ask(50, 20, 4, "uniform+keydiff@0.5"));
  EXPECT_EQ(Run(Ask(50, 20, 4, "uniform+keydiff@0.6")).usage.cached_tokens, 0);
  EXPECT_EQ(Run(Ask(49, 20, 4, "uniform+keydiff@0.5")).usage.cached_tokens, 0);
  EXPECT_EQ(Run(Ask(50, 20, 4, "uniform+keydiff@0.5")).usage.cached_tokens, 50);
}

TEST_F(Serving, ContextsGiveWayToRequestsTheOldestFirst) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  const int64_t page_bytes = core_->Stats().page_bytes;
  const int64_t heads = core_->info().kv_bytes_per_token * 4 / page_bytes;
  Start({.kv_memory_bytes = 40 * heads * page_bytes, .page_tokens = 4});
  Run(Ask(40, 20, 2));  // 10 pages a head.
  Run(Ask(41, 20, 2));  // 11
  Run(Ask(40, 21, 2));  // The first one was used last.
  EXPECT_EQ(core_->Stats().contexts, 2);
  EXPECT_EQ(Run(Greedy(Prompt(100, 9), 4)).status, absl::OkStatus());  // 26: one has to go.
  EXPECT_EQ(core_->Stats().contexts, 1);
  EXPECT_EQ(Run(Ask(40, 22, 2)).usage.cached_tokens, 40);
}

TEST_F(Serving, PinnedContextsStayUntilTheirTimeIsOver) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  const int64_t page_bytes = core_->Stats().page_bytes;
  const int64_t heads = core_->info().kv_bytes_per_token * 4 / page_bytes;
  Start({.kv_memory_bytes = 40 * heads * page_bytes, .page_tokens = 4});
  ValidRequest create = Ask(60, 20, 1);
  create.prompt.resize(60);
  create.max_tokens = 0;
  create.shared_context->pinned_until = clock_.Now() + absl::Seconds(30);
  const Result created = Run(create);
  EXPECT_EQ(created.status, absl::OkStatus());
  EXPECT_EQ(created.usage.generated_tokens, 0);
  EXPECT_TRUE(created.tokens.empty());
  EXPECT_EQ(PagesUsed(), 15 * heads);
  // At most half of the pages may be pinned.
  ValidRequest more = Ask(61, 20, 1);
  more.prompt.resize(61);
  more.max_tokens = 0;
  more.shared_context->pinned_until = clock_.Now() + absl::Seconds(30);
  EXPECT_EQ(RefusalOf(Run(more).status), Refusal::kPinnedFull);
  // 30 pages a head are not there now.
  Running& large = Submit(Greedy(Prompt(110, 9), 4));
  EXPECT_FALSE(Step());
  EXPECT_FALSE(large.done);
  EXPECT_LE(core_->NextWake(), create.shared_context->pinned_until);
  EXPECT_EQ(Submit(create).done, false);  // Behind the large one, but it is there already.
  Step();
  EXPECT_TRUE(runs_.back()->done);
  EXPECT_EQ(runs_.back()->result.usage.cached_tokens, 60);
  clock_.Advance(absl::Seconds(31));
  RunAll();
  EXPECT_EQ(large.result.status, absl::OkStatus());
  EXPECT_EQ(PagesUsed(), 0u);
}

TEST_F(Serving, AReleasedContextIsGoneWhenItsLastUserEnds) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  ValidRequest request = Ask(50, 20, 40);
  const Result alone = Run(request);
  Running& user = Submit(request);
  while (user.result.tokens[0].size() < 5) Step();
  const ContextKey key = {.policy = "full", .tokens = {request.prompt.begin(), request.prompt.begin() + 50}};
  EXPECT_TRUE(core_->ReleaseContext(key));
  EXPECT_FALSE(core_->ReleaseContext(key));
  EXPECT_GT(core_->Stats().pages_contexts, 0u);
  RunAll();
  EXPECT_EQ(user.result.tokens, alone.tokens);
  EXPECT_EQ(core_->Stats().pages_contexts, 0u);
}

TEST_F(Serving, SamplesOfARequestShareItsPrompt) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4});
  const int64_t page_bytes = core_->Stats().page_bytes;
  const int64_t heads = core_->info().kv_bytes_per_token * 4 / page_bytes;
  ValidRequest request = Sampled(Prompt(81, 9), 3, 7);
  request.n = 4;
  Running& run = Submit(request);
  while (run.result.tokens[3].empty()) Step();
  // 20 full pages once, and one for each sample's own.
  EXPECT_EQ(PagesUsed(), (20 + 4) * heads);
  RunAll();
  for (int32_t sample = 0; sample < 4; ++sample) {
    EXPECT_EQ(run.result.tokens[sample].size(), 3u);
  }
  EXPECT_EQ(run.result.usage.kv_bytes_resident, (20 + 4) * heads * page_bytes);
  EXPECT_EQ(PagesUsed(), 0u);
}

TEST_F(Serving, AConversationGoesOnFromWhereItEnded) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4, .min_evicted_context = 16});
  for (const char* policy : kPolicies) {
    ValidRequest turn = Sampled(Prompt(40, 9), 10, 3);
    turn.plan = MakePlan(policy, 30);
    turn.conversation = std::string("c-") + policy;
    const Result first = Run(turn);
    // The next turn: what was said, and something new.
    ValidRequest next = turn;
    const std::vector<TokenId>& said = first.tokens.at(0);
    next.prompt.insert(next.prompt.end(), said.begin(), said.end());
    next.prompt.insert(next.prompt.end(), {40, 41, 42});
    next.plan = MakePlan("uniform+knorm@0.9", 45);  // The context stays as it was compressed.
    const Result second = Run(next);
    EXPECT_EQ(second.status, absl::OkStatus());
    EXPECT_EQ(second.usage.cached_tokens, 40) << policy;
    // The same in one go.
    ValidRequest whole = next;
    whole.conversation.clear();
    whole.plan = MakePlan(policy, 30);
    EXPECT_EQ(Run(whole).tokens, second.tokens) << policy;
    // An answer that was changed goes on from what is equal; another context from nothing.
    ValidRequest changed = next;
    changed.prompt[43] += 1;
    EXPECT_EQ(Run(changed).usage.cached_tokens, 43);
    changed.prompt[3] += 1;
    EXPECT_EQ(Run(changed).usage.cached_tokens, 0);
  }
}

TEST_F(Serving, WhoWaitsForTooLongIsRefused) {
  Start({.kv_memory_bytes = 4 << 20, .max_sequences = 1, .queue_timeout = absl::Seconds(5)});
  Running& first = Submit(Greedy(Prompt(10, 9), 100));
  Step();
  Running& second = Submit(Greedy(Prompt(10, 9), 100));
  EXPECT_LE(core_->NextWake(), clock_.Now() + absl::Seconds(5));
  clock_.Advance(absl::Seconds(6));
  Step();
  EXPECT_EQ(RefusalOf(second.result.status), Refusal::kQueueTimeout);
  EXPECT_GE(RetryAfter(second.result.status), absl::Seconds(1));
  EXPECT_FALSE(first.done);
}

TEST_F(Serving, AQueueOfTooManyTokensIsFull) {
  Start({.kv_memory_bytes = 4 << 20, .max_sequences = 1, .max_queued_tokens = 50});
  Submit(Greedy(Prompt(10, 9), 100));
  Step();
  Running& longest = Submit(Greedy(Prompt(60, 9), 4));  // Alone in the queue it may be longer.
  EXPECT_FALSE(longest.done);
  Running& refused = Submit(Greedy(Prompt(10, 9), 4));
  EXPECT_EQ(RefusalOf(refused.result.status), Refusal::kQueueFull);
  EXPECT_THAT(std::string(refused.result.status.message()), HasSubstr("60 tokens are waiting"));
}

TEST_F(Serving, ADeadlineThatCannotBeMetIsRefusedEarly) {
  Start({.kv_memory_bytes = 4 << 20, .max_sequences = 1});
  clock_.SetTick(absl::Milliseconds(1));
  Run(Greedy(Prompt(60, 9), 4));  // Teaches what a prompt takes: a millisecond a layer at least.
  clock_.SetTick(absl::ZeroDuration());
  Running& running = Submit(Greedy(Prompt(10, 9), 100));
  Step();
  ValidRequest request = Greedy(Prompt(60, 9), 4);
  request.deadline = clock_.Now() + absl::Microseconds(900);
  Running& late = Submit(request);
  request.deadline = clock_.Now() + absl::Seconds(3);
  Running& in_time = Submit(request);
  Step();
  EXPECT_EQ(RefusalOf(late.result.status), Refusal::kDeadline) << late.result.status;
  EXPECT_FALSE(running.done);
  EXPECT_FALSE(in_time.done);
}

TEST_F(Serving, PriorityGoesFirstAndWaitingMakesUpForIt) {
  Start({.kv_memory_bytes = 4 << 20, .max_sequences = 1, .priority_ageing = absl::Seconds(10)});
  Submit(Greedy(Prompt(10, 9), 5));
  Step();
  std::vector<Ticket> order;
  const auto submit = [&](int32_t priority) {
    ValidRequest request = Greedy(Prompt(10, 9), 2);
    request.priority = priority;
    return Submit(request).ticket;
  };
  const Ticket low = submit(0);
  const Ticket high = submit(1);
  clock_.Advance(absl::Seconds(11));
  const Ticket late = submit(1);  // Low has waited for more than one step of priority.
  std::vector<Ticket> ended;
  while (Step()) {
    for (const auto& run : runs_) {
      if (run->done && std::find(ended.begin(), ended.end(), run->ticket) == ended.end()) ended.push_back(run->ticket);
    }
  }
  EXPECT_THAT(ended, ElementsAre(1, high, low, late));
}

TEST_F(Serving, ASlowClientIsGivenUpAndOthersGoOn) {
  Start({.kv_memory_bytes = 4 << 20, .page_tokens = 4, .slow_client_timeout = absl::Seconds(9)});
  // Nobody reads this one: RunAll reads only what Submit returned.
  const auto unread = MakeOutbox(4);
  core_->Submit(next_ticket_++, Greedy(Prompt(10, 9), 100), unread);
  const Result other = Run(Greedy(Prompt(10, 9), 50));
  EXPECT_EQ(other.tokens.at(0).size(), 50u);
  EXPECT_EQ(core_->Stats().parked, 1);
  EXPECT_FALSE(Step());
  EXPECT_GT(PagesUsed(), 0u);
  clock_.Advance(absl::Seconds(10));
  Step();
  EXPECT_EQ(PagesUsed(), 0u);
  const std::vector<Event> events = unread->Take();
  EXPECT_EQ(RefusalOf(std::get<DoneEvent>(events.back()).status), Refusal::kSlowClient);
}

TEST_F(Serving, AShortPromptDoesNotWaitForALongOne) {
  Start({.kv_memory_bytes = 4 << 20, .prefill_chunk = 16});
  Running& long_one = Submit(Greedy(Prompt(100, 9), 2));
  Step();
  Running& short_one = Submit(Greedy(Prompt(10, 9), 2));
  while (!short_one.done) ASSERT_TRUE(Step());
  EXPECT_FALSE(long_one.done);
  RunAll();
  EXPECT_EQ(long_one.result.status, absl::OkStatus());
}

}  // namespace
}  // namespace lukv
