// Eviction inside the prefill: what the pages hold afterwards, that attention over them is masked attention, and that
// they are as many as was said before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/evict/budget_curve.h"
#include "engine/evict/eviction_plan.h"
#include "engine/model/runner.h"
#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"
#include "tests/oracle/naive_forward.h"

namespace lukv {
namespace {

constexpr char kModel[] = "models/tiny/llama-group3";

const WeightSource& Weights(const std::string& model) {
  static std::map<std::string, std::unique_ptr<WeightSource>> opened;
  std::unique_ptr<WeightSource>& source = opened[model];
  if (source == nullptr) source = *OpenWeights(GoldenPath(model));
  return *source;
}

std::vector<TokenId> RandomIds(size_t n, uint32_t seed, const std::string& model = kModel) {
  std::mt19937 random(seed);
  std::vector<TokenId> ids(n);
  for (TokenId& id : ids) id = static_cast<TokenId>(random() % Weights(model).config().vocabulary);
  return ids;
}

// A curve with heads from nearly nothing to nearly everything.
BudgetCurve SkewedCurve(const ModelConfig& config) {
  std::mt19937 random(9);
  std::vector<float> ratios;
  for (int i = 0; i < 99 * config.n_layers * config.n_kv_heads; ++i) {
    ratios.push_back(std::uniform_real_distribution<float>(0.2f, 1.0f)(random));
  }
  return *BudgetCurve::Make(CurveInfo(), config.n_layers, config.n_kv_heads, std::move(ratios));
}

EvictionPlan MakePlan(TestRunner& test, const std::string& policy, size_t n_tokens) {
  ModelRunner& runner = test.runner();
  const BudgetCurve curve = SkewedCurve(runner.config());
  return *EvictionPlan::Make(*ParsePolicy(policy), static_cast<int32_t>(n_tokens), runner.table().geometry(),
                             ModelRunner::PageBytes(runner.config(), runner.options().kv_dtype, 1), &curve);
}

const std::vector<std::string>& AllPolicies() {
  static const std::vector<std::string> policies = [] {
    std::vector<std::string> names;
    for (const char* allocator : {"uniform", "pyramidkv", "adakv", "lukv"}) {
      for (const char* scorer : {"expected_attention", "snapkv", "keydiff", "knorm", "streaming_llm", "random"}) {
        names.push_back(std::string(allocator) + "+" + scorer + "@0.7");
      }
    }
    names.push_back("uniform+snapkv@0.7:queries=64,kernel=5,pool=average,sink=0,window=0");
    return names;
  }();
  return policies;
}

double WorstDifference(std::span<const float> a, std::span<const double> b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

class Policies : public testing::TestWithParam<std::string> {};

// The question's logits, and those of tokens decoded after it, are those of a forward of the whole text in which
// context tokens see everything and later tokens see of the context what each head kept.
TEST_P(Policies, CompactedAttentionIsMaskedAttention) {
  constexpr size_t kContext = 150, kQuestion = 23, kDecoded = 3;
  const std::vector<TokenId> ids = RandomIds(kContext + kQuestion + kDecoded, 1);
  TestRunner test(
      GoldenPath(kModel),
      {.page_tokens = 4, .prefill_chunk = 64, .n_slots = 2, .max_context = static_cast<int32_t>(ids.size())});
  ModelRunner& runner = test.runner();
  const EvictionPlan plan = MakePlan(test, GetParam(), kContext);
  const std::span<const TokenId> context = std::span(ids).first(kContext);
  const PrefillTarget evicted{.slot = Slot{0}, .plan = &plan};
  const PrefillTarget full{.slot = Slot{1}};
  test.Open(evicted, kContext, kQuestion, kDecoded);
  test.Open(full, kContext, 0, 0);
  test.Prefill({.context = context, .targets = {full}});
  std::vector<float> logits = test.Prefill({.context = context,
                                            .question = std::span(ids).subspan(kContext, kQuestion),
                                            .targets = {evicted},
                                            .logits_from = kContext});
  for (size_t t = kContext + kQuestion; t < ids.size(); ++t) {
    const DecodeRow row{.slot = Slot{0}, .token = ids[t], .position = Position{static_cast<int32_t>(t)}};
    const std::vector<float> step = test.Step({&row, 1});
    logits.insert(logits.end(), step.begin(), step.end());
  }

  const int32_t heads = runner.config().n_kv_heads;
  std::vector<std::set<size_t>> kept;
  int32_t removed = 0;
  for (int32_t layer = 0; layer < runner.config().n_layers; ++layer) {
    int64_t total = 0;
    for (int32_t head = 0; head < heads; ++head) {
      const int32_t n = runner.table().Kept(Slot{0}, layer)[static_cast<size_t>(head)];
      const std::vector<size_t> positions = test.KeptPositions(Slot{0}, Slot{1}, layer, head);
      kept.emplace_back(positions.begin(), positions.end());
      ASSERT_EQ(kept.back().size(), static_cast<size_t>(n));
      total += n;
      removed += static_cast<int32_t>(kContext) - n;
      if (plan.known_from_length()) {
        EXPECT_EQ(n, plan.layer_budgets(layer)[static_cast<size_t>(head)]);
      }
    }
    if (!plan.known_from_length()) {
      EXPECT_EQ(total, int64_t{plan.layer_budgets(layer)[0]} * heads);
    }
  }
  EXPECT_GT(removed, 0);
  const std::vector<double> masked =
      NaiveForward(Weights(kModel), ids, [&](int32_t layer, int32_t head, size_t query, size_t key) {
        if (query < kContext || key >= kContext) return true;
        return kept[static_cast<size_t>(layer * heads + head)].contains(key);
      });
  const std::span<const double> expected = std::span(masked).subspan(kContext * static_cast<size_t>(test.vocabulary()));
  EXPECT_LT(WorstDifference(logits, expected), 1e-4);
  // The mask matters: without it the logits are others.
  const std::vector<double> unmasked = NaiveForward(Weights(kModel), ids);
  EXPECT_GT(WorstDifference(logits, std::span(unmasked).subspan(kContext * static_cast<size_t>(test.vocabulary()))),
            1e-2);
  runner.table().Release(Slot{0});
  runner.table().Release(Slot{1});
}

// The same bits whatever the chunk and the threads, alone or between others of other lengths and policies.
TEST_P(Policies, BitsDependOnTheRequestAlone) {
  constexpr size_t kContext = 90, kQuestion = 11;
  const std::vector<TokenId> ids = RandomIds(400, 2);
  const auto context = std::span(ids).first(kContext);
  const auto question = std::span(ids).subspan(kContext, kQuestion);
  const auto run = [&](int32_t chunk, int threads) {
    TestRunner test(GoldenPath(kModel), {.kv_dtype = DType::kBF16, .prefill_chunk = chunk, .threads = threads});
    const EvictionPlan plan = MakePlan(test, GetParam(), kContext);
    const PrefillTarget target{.slot = Slot{0}, .plan = &plan};
    test.Open(target, kContext, kQuestion, 0);
    std::vector<float> logits =
        test.Prefill({.context = context, .question = question, .targets = {target}, .logits_from = kContext});
    test.runner().table().Release(Slot{0});
    return logits;
  };
  const std::vector<float> alone = run(512, 1);
  EXPECT_EQ(run(1, 2), alone);
  EXPECT_EQ(run(37, 3), alone);

  TestRunner test(GoldenPath(kModel), {.kv_dtype = DType::kBF16, .prefill_chunk = 50, .n_slots = 3});
  const EvictionPlan plan = MakePlan(test, GetParam(), kContext);
  const EvictionPlan other = MakePlan(test, "lukv+keydiff@0.4", 61);
  const std::vector<PrefillTarget> targets = {
      {.slot = Slot{0}, .plan = &other}, {.slot = Slot{1}, .plan = &plan}, {.slot = Slot{2}}};
  test.Open(targets[0], 61, 30, 0);
  test.Open(targets[1], kContext, kQuestion, 0);
  test.Open(targets[2], 40, 0, 0);
  const std::vector<PrefillPrompt> prompts = {
      {.context = std::span(ids).subspan(200, 61),
       .question = std::span(ids).subspan(300, 30),
       .targets = {targets[0]}},
      {.context = context, .question = question, .targets = {targets[1]}, .logits_from = kContext},
      {.context = std::span(ids).subspan(150, 40), .targets = {targets[2]}}};
  std::vector<float> among;
  ASSERT_TRUE(test.runner()
                  .Prefill(prompts, {.logits =
                                         [&](size_t prompt, size_t token, std::span<const float> row) {
                                           if (prompt != 1) return;
                                           EXPECT_EQ(token, kContext + among.size() / row.size());
                                           among.insert(among.end(), row.begin(), row.end());
                                         }})
                  .ok());
  EXPECT_EQ(among, alone);
  for (int32_t s = 0; s < 3; ++s) test.runner().table().Release(Slot{s});
}

// Pages are counted from the length before the prefill and used to the page; AdaKV stays below its bound and gives back
// what it did not need.
TEST_P(Policies, UsesThePagesThatWereCounted) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 8; ++trial) {
    const size_t context = 1 + random() % 300;
    const size_t question = random() % 40;
    const int32_t page_tokens = trial == 0 ? 1 : 1 + static_cast<int32_t>(random() % 70);
    const std::vector<TokenId> ids = RandomIds(context + question, random());
    TestRunner test(GoldenPath(kModel), {.page_tokens = page_tokens, .prefill_chunk = 128, .max_context = 400});
    ModelRunner& runner = test.runner();
    const EvictionPlan plan = MakePlan(test, GetParam(), context);
    const uint32_t counted = runner.PagesToOpen(&plan, static_cast<int32_t>(context), static_cast<int32_t>(question));
    const PrefillTarget target{.slot = Slot{0}, .plan = &plan};
    test.Open(target, context, question, 7);
    EXPECT_EQ(runner.pool().used(), counted);
    const PrefillPrompt prompt{
        .context = std::span(ids).first(context), .question = std::span(ids).subspan(context), .targets = {target}};
    test.Prefill(prompt);
    uint32_t held = 0;
    for (int32_t layer = 0; layer < runner.config().n_layers; ++layer) {
      for (int32_t head = 0; head < runner.config().n_kv_heads; ++head) {
        held += static_cast<uint32_t>(runner.table().Pages(Slot{0}, layer, head).size());
      }
    }
    EXPECT_EQ(runner.pool().used(), held);
    if (plan.known_from_length()) {
      EXPECT_EQ(held, counted);
    } else {
      EXPECT_LE(held, counted);
    }
    ASSERT_TRUE(runner.GrowSlot(Slot{0}, 7).ok());
    EXPECT_LE(runner.pool().used(),
              runner.PagesToOpen(&plan, static_cast<int32_t>(context), static_cast<int32_t>(question) + 7));
    runner.table().Release(Slot{0});
    EXPECT_EQ(runner.pool().used(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Policies, testing::ValuesIn(AllPolicies()), [](const auto& param_info) {
  std::string name = param_info.param.substr(0, param_info.param.find('@'));
  std::replace(name.begin(), name.end(), '+', '_');
  return name + (param_info.param.find(':') == std::string::npos ? "" : "_stock");
});

// A context and a question over everything that it kept are one prompt, to the bit; and a question alone goes on where
// an earlier prefill ended.
TEST(Question, WithoutEvictionIsTheSameAsOnePrompt) {
  const std::vector<TokenId> ids = RandomIds(120, 5);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    TestRunner test(GoldenPath(kModel), {.kv_dtype = dtype, .page_tokens = 16, .prefill_chunk = 32});
    const std::vector<float> whole = test.PrefillLogits(ids);
    const EvictionPlan nothing = MakePlan(test, "lukv+expected_attention@0", 77);
    for (const EvictionPlan* plan : {static_cast<const EvictionPlan*>(nullptr), &nothing}) {
      const PrefillTarget target{.slot = Slot{0}, .plan = plan};
      test.Open(target, 77, ids.size() - 77, 0);
      EXPECT_EQ(test.Prefill({.context = std::span(ids).first(77),
                              .question = std::span(ids).subspan(77),
                              .targets = {target},
                              .logits_from = 0}),
                whole);
      test.runner().table().Release(Slot{0});
    }
    // In three goes: a context, a turn, another turn.
    test.Open({.slot = Slot{0}}, 50, 0, ids.size() - 50);
    std::vector<float> turns =
        test.Prefill({.context = std::span(ids).first(50), .targets = {{.slot = Slot{0}}}, .logits_from = 0});
    for (const auto& [begin, n] : {std::pair<size_t, size_t>{50, 40}, {90, 30}}) {
      ASSERT_TRUE(test.runner().GrowSlot(Slot{0}, static_cast<int32_t>(n)).ok());
      const std::vector<float> turn = test.Prefill({.question = std::span(ids).subspan(begin, n),
                                                    .first_position = Position{static_cast<int32_t>(begin)},
                                                    .targets = {{.slot = Slot{0}}},
                                                    .logits_from = 0});
      turns.insert(turns.end(), turn.begin(), turn.end());
    }
    EXPECT_EQ(turns, whole);
    test.runner().table().Release(Slot{0});
    // Without any context.
    test.Open({.slot = Slot{0}}, 0, ids.size(), 0);
    EXPECT_EQ(test.Prefill({.question = ids, .targets = {{.slot = Slot{0}}}, .logits_from = 0}), whole);
    test.runner().table().Release(Slot{0});
  }
}

// Several plans at work on one staging give what each gives alone, and samples of one request hold the same.
TEST(Targets, ShareThePrefillAndNothingElse) {
  constexpr size_t kContext = 140;
  const std::vector<TokenId> ids = RandomIds(kContext + 1, 6);
  const auto context = std::span(ids).first(kContext);
  const std::vector<std::string>& names = AllPolicies();
  TestRunner test(GoldenPath(kModel),
                  {.page_tokens = 8, .n_slots = static_cast<int32_t>(names.size()) + 1, .max_context = 200});
  ModelRunner& runner = test.runner();
  std::vector<EvictionPlan> plans;
  for (const std::string& name : names) plans.push_back(MakePlan(test, name, kContext));
  const auto step = [&](Slot slot) {
    const DecodeRow row{.slot = slot, .token = ids[kContext], .position = Position{kContext}};
    return test.Step({&row, 1});
  };
  std::vector<std::vector<float>> alone;
  for (const EvictionPlan& plan : plans) {
    const PrefillTarget target{.slot = Slot{0}, .plan = &plan};
    test.Open(target, kContext, 0, 1);
    test.Prefill({.context = context, .targets = {target}});
    alone.push_back(step(Slot{0}));
    runner.table().Release(Slot{0});
  }
  PrefillPrompt prompt{.context = context};
  for (size_t i = 0; i < plans.size(); ++i) {
    prompt.targets.push_back({.slot = Slot{static_cast<int32_t>(i)}, .plan = &plans[i]});
    test.Open(prompt.targets.back(), kContext, 0, 1);
  }
  prompt.targets.push_back({.slot = Slot{static_cast<int32_t>(plans.size())}});
  test.Open(prompt.targets.back(), kContext, 0, 1);
  test.Prefill(prompt);
  for (size_t i = 0; i < plans.size(); ++i) {
    EXPECT_EQ(step(prompt.targets[i].slot), alone[i]) << names[i];
  }
  for (const PrefillTarget& target : prompt.targets) runner.table().Release(target.slot);

  // Samples with a question.
  const std::vector<PrefillTarget> samples = {{.slot = Slot{2}, .plan = &plans[0]},
                                              {.slot = Slot{5}, .plan = &plans[0]}};
  for (const PrefillTarget& target : samples) test.Open(target, kContext, 1, 1);
  test.Prefill({.context = context, .question = std::span(ids).subspan(kContext), .targets = samples});
  const DecodeRow rows[] = {{.slot = Slot{2}, .token = 3, .position = Position{kContext + 1}},
                            {.slot = Slot{5}, .token = 3, .position = Position{kContext + 1}}};
  const std::vector<float> both = test.Step(rows);
  EXPECT_TRUE(std::equal(both.begin(), both.begin() + test.vocabulary(), both.begin() + test.vocabulary()));
  for (const PrefillTarget& target : samples) runner.table().Release(target.slot);
}

// While 8k tokens are prefilled, the cache is the compressed total and ONE layer in full, never more.
TEST(Peak, IsTheCompressedTotalAndOneLayer) {
  constexpr int32_t kContext = 8192, kQuestion = 100;
  const std::vector<TokenId> ids = RandomIds(kContext + kQuestion, 7);
  TestRunner test(GoldenPath(kModel), {.kv_dtype = DType::kBF16, .max_context = kContext + kQuestion});
  ModelRunner& runner = test.runner();
  const ModelConfig& config = runner.config();
  const size_t full_bytes = static_cast<size_t>(kContext + kQuestion) *
                            static_cast<size_t>(ModelRunner::KvBytesPerToken(config, DType::kBF16));
  for (const char* name : {"lukv+expected_attention@0.8", "uniform+snapkv@0.8", "adakv+keydiff@0.8"}) {
    const EvictionPlan plan = MakePlan(test, name, kContext);
    const PrefillTarget target{.slot = Slot{0}, .plan = &plan};
    test.Open(target, kContext, kQuestion, 0);
    const PrefillPrompt prompt{
        .context = std::span(ids).first(kContext), .question = std::span(ids).subspan(kContext), .targets = {target}};
    PrefillGroup group = *runner.BeginPrefill({&prompt, 1});
    const size_t page_bytes = static_cast<size_t>(ModelRunner::PageBytes(config, DType::kBF16, 64));
    size_t peak = 0;
    while (!group.done()) {
      ASSERT_TRUE(runner.RunPrefillUnit(group, {}).ok());
      peak = std::max(peak, group.staging_bytes() + runner.pool().used() * page_bytes);
    }
    const size_t one_layer = size_t{2} * kContext * static_cast<size_t>(config.n_kv_heads * config.head_dim) * 2;
    EXPECT_EQ(group.staging_bytes(), one_layer) << name;
    EXPECT_EQ(peak, one_layer + plan.PagesFor(kQuestion) * page_bytes) << name;
    // Half-filled last pages are all that comes on top of the entries.
    const std::span<const int32_t> budgets = plan.budgets();
    const int64_t entries =
        std::accumulate(budgets.begin(), budgets.end(), int64_t{0}) + static_cast<int64_t>(budgets.size()) * kQuestion;
    EXPECT_LT(int64_t{runner.pool().used()} * 64, entries + static_cast<int64_t>(budgets.size()) * 64) << name;
    EXPECT_LT(runner.pool().used() * page_bytes, full_bytes) << name;
    runner.table().Release(Slot{0});
  }
}

// A dropped prompt's slot may serve others while its group goes on.
TEST(Group, GoesOnWithoutADroppedPrompt) {
  const std::vector<TokenId> ids = RandomIds(200, 8);
  TestRunner test(GoldenPath(kModel), {.page_tokens = 4, .prefill_chunk = 16, .n_slots = 2, .max_context = 200});
  ModelRunner& runner = test.runner();
  const EvictionPlan plan = MakePlan(test, "lukv+snapkv@0.5", 80);
  const std::vector<PrefillTarget> targets = {{.slot = Slot{0}, .plan = &plan}, {.slot = Slot{1}, .plan = &plan}};
  const auto prompt = [&](size_t s) {
    return PrefillPrompt{.context = std::span(ids).subspan(s * 10, 80),
                         .question = std::span(ids).subspan(100 + s * 10, 20),
                         .targets = {targets[s]}};
  };
  test.Open(targets[1], 80, 20, 0);
  const std::vector<float> alone = test.Prefill(prompt(1));
  runner.table().Release(Slot{1});
  for (int units = 0; units < 20; ++units) {
    for (const PrefillTarget& target : targets) test.Open(target, 80, 20, 0);
    const std::vector<PrefillPrompt> prompts = {prompt(0), prompt(1)};
    PrefillGroup group = *runner.BeginPrefill(prompts);
    std::vector<float> logits;
    const LogitsSink sink = [&](size_t p, size_t, std::span<const float> row) {
      EXPECT_EQ(p, 1u);
      logits.assign(row.begin(), row.end());
    };
    for (int unit = 0; !group.done(); ++unit) {
      if (unit == units) {
        group.Drop(0);
        runner.table().Release(Slot{0});
        // Somebody else takes the slot and keeps something there.
        const std::vector<int32_t> kept(static_cast<size_t>(runner.table().geometry().heads()), 9);
        runner.table().Assign(Slot{0}, kept, 0,
                              *runner.pool().Take(runner.table().PagesFor(kept, 0), PageOwner::kSequence));
      }
      ASSERT_TRUE(runner.RunPrefillUnit(group, {.logits = sink}).ok());
    }
    EXPECT_EQ(logits, alone) << units;
    for (const PrefillTarget& target : targets) runner.table().Release(target.slot);
  }
}

// Observed scores are those that plans choose by, and asking for them changes nothing.
TEST(Observer, SeesEveryLayersScores) {
  constexpr size_t kContext = 70;
  const std::vector<TokenId> ids = RandomIds(kContext, 10);
  TestRunner test(GoldenPath(kModel), {});
  ModelRunner& runner = test.runner();
  const ScorerSettings keydiff = DefaultPolicy(Scorer::kKeyDiff).scorer;
  const ScorerSettings snapkv = DefaultPolicy(Scorer::kSnapKv).scorer;
  test.Open({.slot = Slot{0}}, kContext, 0, 0);
  const PrefillPrompt prompt{
      .context = ids, .targets = {{.slot = Slot{0}}}, .observed_scorers = {keydiff, snapkv, keydiff}};
  int seen = 0;
  const ScoreSink sink = [&](size_t, int32_t layer, const ScorerSettings& scorer, std::span<const float> scores) {
    EXPECT_EQ(layer, seen / 2);
    EXPECT_EQ(scorer, seen % 2 == 0 ? keydiff : snapkv);
    EXPECT_EQ(scores.size(), kContext * static_cast<size_t>(runner.config().n_kv_heads));
    ++seen;
    return absl::OkStatus();
  };
  ASSERT_TRUE(runner.Prefill({&prompt, 1}, {.scores = sink}).ok());
  EXPECT_EQ(seen, 2 * runner.config().n_layers);
  // An error of the observer ends the prefill.
  const ScoreSink failing = [](size_t, int32_t, const ScorerSettings&, std::span<const float>) {
    return absl::DataLossError("full disk");
  };
  runner.table().Release(Slot{0});
  test.Open({.slot = Slot{0}}, kContext, 0, 0);
  EXPECT_EQ(runner.Prefill({&prompt, 1}, {.scores = failing}).code(), absl::StatusCode::kDataLoss);
  runner.table().Release(Slot{0});
}

// A decode step's attention weights, over everything that a head holds, add up to one.
TEST(DecodeObserver, SeesAttentionWeights) {
  const std::vector<TokenId> ids = RandomIds(50, 11);
  TestRunner test(GoldenPath(kModel), {});
  ModelRunner& runner = test.runner();
  test.Open({.slot = Slot{0}}, ids.size(), 0, 1);
  test.Prefill({.context = ids, .targets = {{.slot = Slot{0}}}});
  ASSERT_TRUE(runner.GrowSlot(Slot{0}, 1).ok());
  int32_t next_layer = 0;
  const DecodeObserver observer{.n_entries = 51, .on_weights = [&](int32_t layer, std::span<const float> weights) {
                                  EXPECT_EQ(layer, next_layer++);
                                  EXPECT_EQ(weights.size(), static_cast<size_t>(runner.config().n_heads) * 51);
                                  for (size_t h = 0; h * 51 < weights.size(); ++h) {
                                    double sum = 0;
                                    for (const float weight : weights.subspan(h * 51, 51)) sum += double{weight};
                                    EXPECT_NEAR(sum, 1, 1e-5);
                                  }
                                  return absl::OkStatus();
                                }};
  const DecodeRow row{.slot = Slot{0}, .token = 1, .position = Position{50}};
  ASSERT_TRUE(runner.Decode({&row, 1}, &observer).ok());
  EXPECT_EQ(next_layer, runner.config().n_layers);
  runner.table().Release(Slot{0});
}

}  // namespace
}  // namespace lukv
