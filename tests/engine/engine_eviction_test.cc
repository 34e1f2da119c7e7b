// What the engine promises of requests whose contexts are compressed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "engine/evict/budget_curve.h"
#include "engine/model/fingerprint.h"
#include "engine/model/weight_source.h"
#include "engine/refusal.h"
#include "tests/engine/engine_fixture.h"
#include "tests/engine/faulty_backend.h"

namespace lukv {
namespace {

using ::testing::HasSubstr;

constexpr char kModel[] = "llama-group3";

std::vector<TokenId> RandomIds(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids(n);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % 90);
  return ids;
}

// A request whose first `context` tokens are compressed.
ValidRequest Compressed(const Engine& engine, const std::string& policy, int32_t context, size_t question,
                        int32_t max_tokens, uint32_t seed) {
  ValidRequest request = Sampled(RandomIds(static_cast<size_t>(context) + question, seed), max_tokens, seed);
  auto plan = engine.MakePlan(*ParsePolicy(policy), context);
  EXPECT_TRUE(plan.ok()) << plan.status();
  request.plan = *std::move(plan);
  return request;
}

constexpr const char* kPolicies[] = {
    "uniform+expected_attention@0.8", "pyramidkv+snapkv@0.5",           "adakv+keydiff@0.8",
    "uniform+random@0.9:seed=3",      "uniform+streaming_llm@40tokens", "full"};

TEST(EngineEviction, ReportsWhatWasKeptAndFreed) {
  const auto engine = MakeEngine({.page_tokens = 4, .min_evicted_context = 32});
  const ModelConfig& config = engine->info().config;
  const int64_t token_bytes = engine->info().kv_bytes_per_token;
  const Result result = RunAlone(*engine, Compressed(*engine, "uniform+keydiff@0.75", 80, 7, 6, 1));
  ASSERT_TRUE(result.status.ok()) << result.status;
  const Usage& usage = result.usage;
  EXPECT_EQ(usage.prompt_tokens, 87);
  EXPECT_EQ(usage.context_tokens, 80);
  ASSERT_EQ(usage.kept.size(), static_cast<size_t>(config.n_layers));
  for (const KeptTokens& layer : usage.kept) {
    EXPECT_EQ(layer.min, 20);
    EXPECT_EQ(layer.mean, 20);
    EXPECT_EQ(layer.max, 20);
  }
  EXPECT_EQ(usage.context_entries, int64_t{80} * config.n_layers * config.n_kv_heads);
  EXPECT_EQ(usage.kept_entries, int64_t{20} * config.n_layers * config.n_kv_heads);
  // 87 + 5 tokens, against 20 + 7 + 5 entries in pages of 4.
  EXPECT_EQ(usage.kv_bytes_full, 92 * token_bytes);
  EXPECT_EQ(usage.kv_bytes_resident, 32 * token_bytes);
  EXPECT_EQ(usage.kv_bytes_freed(), 60 * token_bytes);
  EXPECT_GT(usage.eviction, absl::ZeroDuration());
  EXPECT_LT(usage.eviction, usage.prefill);

  const Result full = RunAlone(*engine, Compressed(*engine, "full", 80, 7, 6, 1));
  EXPECT_EQ(full.usage.context_tokens, 0);
  EXPECT_TRUE(full.usage.kept.empty());
  EXPECT_EQ(full.usage.kv_bytes_resident, 92 * token_bytes);
  EXPECT_EQ(full.usage.kv_bytes_freed(), 0);
  EXPECT_TRUE(Eventually(*engine, NothingHeld));
}

TEST(EngineEviction, GaugesShowWhatLayersHold) {
  const auto engine = MakeEngine({.page_tokens = 4, .min_evicted_context = 32});
  const auto parked = MakeOutbox(1);
  const Ticket ticket = engine->Submit(Compressed(*engine, "uniform+keydiff@0.75", 80, 7, 30, 1), parked);
  const int64_t heads = engine->info().config.n_kv_heads;
  EXPECT_TRUE(Eventually(*engine, [&](const EngineStats& stats) {
    return stats.layers.size() == static_cast<size_t>(engine->info().config.n_layers) &&
           stats.layers[1].full == 80 * heads && stats.layers[1].kept == 20 * heads;
  }));
  EXPECT_LT(engine->Stats().kv_bytes_resident, engine->Stats().kv_bytes_full / 2);
  engine->Cancel(ticket);
  EXPECT_TRUE(Eventually(*engine, NothingHeld));
}

TEST(EngineEviction, ShortContextsAndFullPoliciesKeepEverything) {
  const auto engine = MakeEngine({.min_evicted_context = 32});
  const auto plan = [&](const char* policy, int32_t context) {
    return *engine->MakePlan(*ParsePolicy(policy), context);
  };
  EXPECT_EQ(plan("uniform+keydiff@0.8", 31), nullptr);
  EXPECT_NE(plan("uniform+keydiff@0.8", 32), nullptr);
  EXPECT_EQ(plan("full", 1000), nullptr);
  EXPECT_EQ(plan("uniform+keydiff@0", 1000), nullptr);
  EXPECT_EQ(plan("uniform+keydiff@1000tokens", 1000), nullptr);
}

TEST(EngineEviction, APolicyWithoutItsCurveIsRefused) {
  const std::string folder = testing::TempDir() + "/lukv-engine-curves";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto weights = *OpenWeights(GoldenPath(std::string("models/tiny/") + kModel));
  const ModelConfig& config = weights->config();
  const Policy keydiff = DefaultPolicy(Scorer::kKeyDiff);
  const std::vector<float> ratios(static_cast<size_t>(99 * config.n_layers * config.n_kv_heads), 0.7f);
  const CurveInfo info{.model_fingerprint = *ModelFingerprint(*weights),
                       .scorer = keydiff.scorer,
                       .sink = keydiff.sink,
                       .window = keydiff.window};
  ASSERT_TRUE(
      SaveCurve(*BudgetCurve::Make(info, config.n_layers, config.n_kv_heads, ratios), folder + "/keydiff.npy").ok());

  const auto engine = MakeEngine({.curves = folder, .min_evicted_context = 32}, kModel);
  EXPECT_EQ((*engine->MakePlan(*ParsePolicy("lukv+keydiff@0.8"), 100))->budgets()[0], 30);
  EXPECT_EQ(engine->curves().Labels(), std::vector<std::string>{"keydiff"});
  for (const char* policy : {"lukv+snapkv@0.8", "lukv+keydiff@0.8:sink=5"}) {
    for (const int32_t context : {1, 100}) {  // Whatever the prompt.
      const absl::Status refused = engine->MakePlan(*ParsePolicy(policy), context).status();
      EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(refused.message()), HasSubstr("(it has: keydiff)"));
    }
  }
  // The same files for another model.
  const absl::Status other = Engine::Create(GoldenPath("models/tiny/qwen2"), MakeTestBackend({.threads = 1}),
                                            EndTokens(), {.kv_memory_bytes = 1 << 20, .curves = folder})
                                 .status();
  EXPECT_EQ(other.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(other.message()), HasSubstr("keydiff.npy"));
  std::filesystem::remove_all(folder);
}

// Admission by what is kept: a context that could never fit in full runs compressed.
TEST(EngineEviction, AdmitsByTheCompressedSize) {
  constexpr int32_t context = 100;
  const int64_t token_bytes = MakeEngine()->info().kv_bytes_per_token;
  const auto engine =
      MakeEngine({.kv_memory_bytes = token_bytes * context / 2, .page_tokens = 4, .min_evicted_context = 32});
  const Result full = RunAlone(*engine, Compressed(*engine, "full", context, 5, 3, 2));
  EXPECT_EQ(RefusalOf(full.status), Refusal::kNeverFits);
  const Result compressed = RunAlone(*engine, Compressed(*engine, "uniform+keydiff@0.8", context, 5, 3, 2));
  EXPECT_TRUE(compressed.status.ok()) << compressed.status;
  const Result too_much = RunAlone(*engine, Compressed(*engine, "uniform+keydiff@0.2", context, 5, 3, 2));
  EXPECT_THAT(std::string(too_much.status.message()), HasSubstr("of which uniform+keydiff@0.2 compresses"));
}

TEST(EngineEviction, SamplesShareOneChoice) {
  const auto engine = MakeEngine({.page_tokens = 4, .min_evicted_context = 32});
  for (const char* policy : kPolicies) {
    ValidRequest request = Compressed(*engine, policy, 90, 11, 9, 5);
    const Result one = RunAlone(*engine, request);
    request.n = 3;
    const Result three = RunAlone(*engine, request);
    ASSERT_TRUE(three.status.ok()) << three.status;
    EXPECT_EQ(three.tokens.at(0), one.tokens.at(0)) << policy;
    EXPECT_NE(three.tokens.at(1), three.tokens.at(0)) << policy;
  }
}

TEST(EngineEviction, ATokenDoesNotDependOnWhatRunsBeside) {
  const EngineOptions options{.page_tokens = 4, .max_sequences = 5, .prefill_chunk = 24, .min_evicted_context = 16};
  std::mt19937 random(12);
  std::vector<ValidRequest> requests;
  std::vector<std::vector<TokenId>> alone;
  {
    const auto engine = MakeEngine(options);
    for (uint32_t i = 0; i < 18; ++i) {
      const int32_t context = 1 + static_cast<int32_t>(random() % (i % 2 ? 15 : 85));
      requests.push_back(Compressed(*engine, kPolicies[i % std::size(kPolicies)], context, 1 + random() % 20,
                                    1 + static_cast<int32_t>(random() % 20), i));
      alone.push_back(RunAlone(*engine, requests.back()).tokens.at(0));
    }
  }
  const auto engine = MakeEngine(options);
  std::vector<std::shared_ptr<Outbox>> outboxes;
  for (const ValidRequest& request : requests) {
    outboxes.push_back(MakeOutbox());
    engine->Submit(request, outboxes.back());
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const Result result = Collect(*outboxes[i]);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.tokens.at(0), alone[i]) << "request " << i;
  }
  EXPECT_TRUE(Eventually(*engine, NothingHeld));
}

TEST(EngineEviction, LivesOnAfterAFailureAtAnyCallOfTheBackend) {
  const auto countdown = std::make_shared<std::atomic<int>>(-1);
  auto created =
      Engine::Create(GoldenPath(std::string("models/tiny/") + kModel),
                     std::make_unique<FaultyBackend>(MakeTestBackend({.threads = 1}), countdown), EndTokens(),
                     {.kv_memory_bytes = 1 << 20, .page_tokens = 4, .prefill_chunk = 32, .min_evicted_context = 16});
  ASSERT_TRUE(created.ok()) << created.status();
  Engine& engine = **created;
  for (const char* policy : {"adakv+expected_attention@0.8", "uniform+snapkv@0.5"}) {
    const ValidRequest request = Compressed(engine, policy, 40, 5, 2, 3);
    const std::vector<TokenId> expected = RunAlone(engine, request).tokens.at(0);
    int failures = 0;
    for (int call = 0;; ++call) {
      *countdown = call;
      const Result result = RunAlone(engine, request);
      if (*countdown >= 0) break;  // The request made fewer calls than that.
      ++failures;
      ASSERT_EQ(result.status.code(), absl::StatusCode::kInternal) << policy << " call " << call;
      ASSERT_TRUE(Eventually(engine, NothingHeld)) << policy << " call " << call;
      ASSERT_EQ(RunAlone(engine, request).tokens.at(0), expected) << policy << " call " << call;
    }
    EXPECT_GT(failures, 80) << policy;
    *countdown = -1;
  }
}

// Random submits, cancels, finishes and slow readers with every policy on a small pool: pages in = pages out.
TEST(EngineEviction, SurvivesRandomUse) {
  for (uint32_t seed = 0; seed < 3; ++seed) {
    const auto engine = MakeEngine({.kv_memory_bytes = 200 << 10,
                                    .page_tokens = 3,
                                    .max_sequences = 4,
                                    .max_queued_requests = 20,
                                    .prefill_chunk = 19,
                                    .min_evicted_context = 16});
    std::vector<std::thread> clients;
    for (uint32_t c = 0; c < 3; ++c) {
      clients.emplace_back([&, c] {
        std::mt19937 random(seed * 10 + c);
        for (uint32_t i = 0; i < 30; ++i) {
          ValidRequest request =
              Compressed(*engine, kPolicies[random() % std::size(kPolicies)], 1 + static_cast<int32_t>(random() % 100),
                         random() % 20, 1 + static_cast<int32_t>(random() % 20), random());
          request.n = 1 + static_cast<int32_t>(random() % 3);
          const auto outbox = MakeOutbox(1 + random() % 4);
          const Ticket ticket = engine->Submit(request, outbox);
          if (random() % 3 == 0) absl::SleepFor(absl::Microseconds(random() % 3000));
          if (random() % 3 == 0) engine->Finish(ticket, static_cast<int32_t>(random() % 3), 1);
          if (random() % 3 == 0) engine->Cancel(ticket);
          const Result result = Collect(*outbox);
          if (result.status.ok()) {
            EXPECT_EQ(result.finished.size(), static_cast<size_t>(request.n));
          }
        }
      });
    }
    for (std::thread& client : clients) client.join();
    EXPECT_TRUE(Eventually(*engine, NothingHeld));
  }
}

}  // namespace
}  // namespace lukv
