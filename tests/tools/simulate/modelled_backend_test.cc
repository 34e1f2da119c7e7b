// The modelled device under the real forward: what must not change the tokens does not, and what is wrong does.
#include "tools/simulate/modelled_backend.h"

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/evict/eviction_plan.h"
#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "tools/simulate/modelled_model.h"
#include "tools/simulate/random.h"

namespace lukv {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int32_t kPageTokens = 4;

// A device with one fault in its data flow.
enum class Bug { kNone, kSkippedAppend, kSkewedTable, kWrongPosition, kStaleCompact };

class BuggyBackend final : public ModelledBackend {
 public:
  BuggyBackend(Bug bug, VirtualClock& clock) : ModelledBackend({}, {}, clock), bug_(bug) {}

 protected:
  absl::Status DoAppend(const AppendArgs& args) override {
    if (bug_ == Bug::kSkippedAppend && ++appends_ == 5) return absl::OkStatus();
    return ModelledBackend::DoAppend(args);
  }
  absl::Status DoScatter(const ScatterArgs& args) override {
    std::vector<ScatterUpdate> updates(args.updates, args.updates + args.n_updates);
    // Of several words the last are pages.
    if (bug_ == Bug::kSkewedTable && updates.size() > 4) updates.back().value ^= 1;
    return ModelledBackend::DoScatter({.to = args.to, .updates = updates.data(), .n_updates = args.n_updates});
  }
  absl::Status DoRopeStage(const RopeStageArgs& args) override {
    std::vector<Position> positions(args.qkv.positions, args.qkv.positions + args.qkv.qkv.rows);
    if (bug_ == Bug::kWrongPosition) positions.back() = Position{Value(positions.back()) + 1};
    RopeStageArgs changed = args;
    changed.qkv.positions = positions.data();
    return ModelledBackend::DoRopeStage(changed);
  }
  absl::Status DoCompact(const CompactArgs& args) override {
    if (bug_ == Bug::kStaleCompact && args.layer == 1) return absl::OkStatus();
    return ModelledBackend::DoCompact(args);
  }

 private:
  const Bug bug_;
  int appends_ = 0;
};

class Machine {
 public:
  explicit Machine(Bug bug = Bug::kNone, int32_t prefill_chunk = 512) : backend_(bug, clock_) {
    weights_ = MakeModelledWeights({});
    auto model = Model::Load(*weights_, backend_);
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = std::make_unique<Model>(*std::move(model));
    auto runner = ModelRunner::Create(*model_, backend_,
                                      {.page_tokens = kPageTokens,
                                       .n_pages = 1024,
                                       .n_slots = 4,
                                       .max_context = 512,
                                       .prefill_chunk = prefill_chunk});
    EXPECT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }
  ~Machine() {
    for (int32_t slot = 0; slot < 4; ++slot) {
      if (runner_->table().in_use(Slot{slot})) runner_->table().Release(Slot{slot});
    }
  }

  ModelRunner& runner() { return *runner_; }
  const VirtualClock& clock() const { return clock_; }

  // The greedy token after prompt `prompt`, whose slots are opened here; the first `context` tokens are its context.
  TokenId Prefill(Slot slot, const Tokens& prompt, size_t context, const EvictionPlan* plan = nullptr) {
    const std::span<const TokenId> all(prompt);
    const PrefillTarget target{.slot = slot, .plan = plan};
    EXPECT_TRUE(
        runner_->OpenSlot(target, static_cast<int32_t>(context), static_cast<int32_t>(prompt.size() - context), 100)
            .ok());
    TokenId token = -1;
    const PrefillPrompt part{.context = all.first(context), .question = all.subspan(context), .targets = {target}};
    const absl::Status status = runner_->Prefill({&part, 1}, {.rows = [&](size_t, size_t, int32_t row) {
                                                   token = Sample({row}).front();
                                                   return absl::OkStatus();
                                                 }});
    EXPECT_TRUE(status.ok()) << status;
    return token;
  }
  Tokens Sample(const std::vector<int32_t>& rows) {
    SampleBatch batch;
    for (const int32_t row : rows) batch.rows.push_back({.logits_row = row});
    auto sampled = runner_->Sample(batch);
    EXPECT_TRUE(sampled.ok()) << sampled.status();
    Tokens tokens;
    for (const SampledToken& token : *sampled) tokens.push_back(token.token);
    return tokens;
  }
  Tokens Decode(const std::vector<DecodeRow>& rows) {
    std::vector<int32_t> numbers;
    for (const DecodeRow& row : rows) {
      EXPECT_TRUE(runner_->GrowSlot(row.slot, 1).ok());
      numbers.push_back(static_cast<int32_t>(numbers.size()));
    }
    EXPECT_TRUE(runner_->Decode(rows).ok());
    return Sample(numbers);
  }
  Tokens Generate(const Tokens& prompt, size_t context, int32_t n, const EvictionPlan* plan = nullptr) {
    Tokens tokens = {Prefill(Slot{0}, prompt, context, plan)};
    while (static_cast<int32_t>(tokens.size()) < n) {
      const int32_t position = static_cast<int32_t>(prompt.size() + tokens.size()) - 1;
      tokens.push_back(Decode({{.slot = Slot{0}, .token = tokens.back(), .position = Position{position}}}).front());
    }
    return tokens;
  }

 private:
  VirtualClock clock_;
  BuggyBackend backend_;
  std::unique_ptr<WeightSource> weights_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ModelRunner> runner_;
};

Tokens Prompt(uint64_t seed, int32_t n) {
  Random random(seed);
  Tokens tokens;
  for (int32_t i = 0; i < n; ++i) tokens.push_back(random.Between(0, 63));
  return tokens;
}

EvictionPlan Plan(const char* name, int32_t n_tokens, Machine& machine) {
  const Policy policy = *ParsePolicy(name);
  const CurveSet curves = MakeModelledCurves(machine.runner().config(), "");
  auto plan = EvictionPlan::Make(policy, n_tokens, machine.runner().table().geometry(), 16,
                                 curves.Get(policy.scorer, policy.sink, policy.window));
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

TEST(ModelledBackend, ChunksOfAnySizeGiveTheSameTokens) {
  for (const char* name :
       {"full", "uniform+expected_attention@0.5", "adakv+snapkv@0.6:queries=8,window=8", "lukv+expected_attention@0.8",
        "pyramidkv+keydiff@0.5", "uniform+knorm@0.7", "uniform+streaming_llm@0.5", "adakv+random@0.5"}) {
    const Tokens prompt = Prompt(1, 90);
    std::vector<Tokens> results;
    for (const int32_t chunk : {1, 3, 16, 89, 512}) {
      Machine machine(Bug::kNone, chunk);
      if (std::string_view(name) == "full") {
        results.push_back(machine.Generate(prompt, 70, 30));
      } else {
        const EvictionPlan plan = Plan(name, 70, machine);
        results.push_back(machine.Generate(prompt, 70, 30, &plan));
      }
    }
    for (const Tokens& tokens : results) EXPECT_EQ(tokens, results.front()) << name;
  }
}

TEST(ModelledBackend, ARowOfABatchIsWhatItIsAlone) {
  std::vector<Tokens> alone;
  for (uint64_t i = 0; i < 3; ++i) alone.push_back(Machine().Generate(Prompt(i, 10 + 7 * static_cast<int>(i)), 0, 20));
  Machine machine;
  std::vector<Tokens> together(3);
  for (int32_t i = 0; i < 3; ++i) together[i].push_back(machine.Prefill(Slot{i}, Prompt(i, 10 + 7 * i), 0));
  for (int32_t step = 0; step < 19; ++step) {
    std::vector<DecodeRow> rows;
    for (int32_t i = 0; i < 3; ++i) {
      rows.push_back({.slot = Slot{i}, .token = together[i].back(), .position = Position{10 + 7 * i + step}});
    }
    const Tokens tokens = machine.Decode(rows);
    for (int32_t i = 0; i < 3; ++i) together[i].push_back(tokens[i]);
  }
  EXPECT_EQ(together, alone);
}

TEST(ModelledBackend, TokensDependOnPromptPolicyAndPosition) {
  const Tokens prompt = Prompt(1, 60);
  const Tokens tokens = Machine().Generate(prompt, 60, 20);
  Tokens other = prompt;
  other[3] ^= 1;
  EXPECT_NE(Machine().Generate(other, 60, 20), tokens);
  other = prompt;
  std::swap(other[10], other[11]);
  EXPECT_NE(Machine().Generate(other, 60, 20), tokens);
  Machine evicting;
  const EvictionPlan plan = Plan("uniform+knorm@0.5", 60, evicting);
  EXPECT_NE(evicting.Generate(prompt, 60, 20, &plan), tokens);
}

TEST(ModelledBackend, EveryPlantedBugChangesTheTokens) {
  const Tokens prompt = Prompt(5, 50);
  const Tokens right = Machine().Generate(prompt, 30, 40);
  for (const Bug bug : {Bug::kSkippedAppend, Bug::kSkewedTable, Bug::kWrongPosition, Bug::kStaleCompact}) {
    EXPECT_NE(Machine(bug).Generate(prompt, 30, 40), right) << static_cast<int>(bug);
  }
}

TEST(ModelledBackend, TimePassesAsTheWorkGrows) {
  Machine small, large;
  const absl::Time loaded = small.clock().Now();
  EXPECT_EQ(large.clock().Now(), loaded);
  small.Generate(Prompt(1, 10), 10, 2);
  large.Generate(Prompt(1, 200), 200, 2);
  EXPECT_GT(small.clock().Now(), loaded);
  EXPECT_GT(large.clock().Now() - loaded, 5 * (small.clock().Now() - loaded));
}

TEST(ModelledBackend, TheChosenCallFailsAndDoesNothing) {
  VirtualClock clock;
  int64_t failing = 0;
  ModelledBackend backend({}, {.fails = [&](int64_t call) { return call == failing; }}, clock);
  auto buffer = backend.Allocate(64);
  ASSERT_TRUE(buffer.ok());
  backend.ArmFaults();
  failing = backend.calls();
  const uint64_t value = 7;
  EXPECT_TRUE(absl::IsInternal(backend.CopyToDevice(buffer->data(), &value, sizeof(value))));
  EXPECT_NE(*buffer->as<uint64_t>(), value);
  EXPECT_TRUE(backend.CopyToDevice(buffer->data(), &value, sizeof(value)).ok());
  failing = backend.calls();
  EXPECT_TRUE(absl::IsResourceExhausted(backend.Allocate(8).status()));
  EXPECT_EQ(backend.faults_injected(), 2);
}

}  // namespace
}  // namespace lukv
