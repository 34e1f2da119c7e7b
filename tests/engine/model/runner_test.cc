// The forward over staging and pages against transformers, for every tiny model, and its promises about bits: chunks,
// batch neighbours and prompts of the same group change nothing.
#include "engine/model/runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

// The runner sees everything; a window shorter than the prompt is refused by the engine, so compare up to it.
constexpr size_t kWindow = 16;

struct Tiny {
  explicit Tiny(const std::string& name) : path(GoldenPath("models/tiny/" + name)) {
    const nlohmann::json golden = ReadGoldenJson("models/tiny/" + name + ".json");
    ids = golden["ids"].get<std::vector<int32_t>>();
    logits = ReadGoldenF32("models/tiny/" + name + ".logits.f32.bin");
    if (name == "mistral-window") {
      logits.resize(logits.size() / ids.size() * kWindow);
      ids.resize(kWindow);
    }
    vocabulary = logits.size() / ids.size();
  }
  std::string path;
  std::vector<TokenId> ids;
  std::vector<float> logits;
  size_t vocabulary;
};

double WorstDifference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) worst = std::max(worst, double{std::abs(a[i] - b[i])});
  return worst;
}

class TinyModels : public testing::TestWithParam<std::tuple<std::string, int32_t>> {
 protected:
  const Tiny tiny_{std::get<0>(GetParam())};
  const int32_t page_tokens_ = std::get<1>(GetParam());
};

TEST_P(TinyModels, PrefillAndDecodeGiveTheLogitsOfTransformers) {
  TestRunner test(tiny_.path, {.page_tokens = page_tokens_, .prefill_chunk = 7});
  EXPECT_LT(WorstDifference(test.PrefillLogits(tiny_.ids), tiny_.logits), 5e-4);
  const size_t split = 5;
  const std::span<const float> tail = std::span(tiny_.logits).subspan((split - 1) * tiny_.vocabulary);
  EXPECT_LT(WorstDifference(test.DecodeLogits(tiny_.ids, split), tail), 5e-4);
}

TEST_P(TinyModels, Bf16CacheStaysNear) {
  TestRunner test(tiny_.path, {.kv_dtype = DType::kBF16, .page_tokens = page_tokens_});
  // Logits reach 9, attention is sharp; bf16 keeps 8 bits of K and V.
  EXPECT_LT(WorstDifference(test.PrefillLogits(tiny_.ids), tiny_.logits), 0.5);
}

INSTANTIATE_TEST_SUITE_P(All, TinyModels,
                         testing::Combine(testing::Values("llama-group3", "llama-llama3-rope", "llama-linear-rope",
                                                          "llama-biases", "mistral-window", "mistral-wide", "qwen2",
                                                          "qwen2-sharded", "qwen3", "qwen3-tied"),
                                          testing::Values(1, 4, 64)),
                         [](const auto& param_info) {
                           std::string name =
                               std::get<0>(param_info.param) + "_page" + std::to_string(std::get<1>(param_info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class Bits : public testing::TestWithParam<DType> {
 protected:
  const Tiny tiny_{"llama-group3"};
};

TEST_P(Bits, DoNotDependOnTheChunk) {
  const auto run = [&](int32_t chunk) {
    return TestRunner(tiny_.path, {.kv_dtype = GetParam(), .prefill_chunk = chunk}).PrefillLogits(tiny_.ids);
  };
  const std::vector<float> whole = run(512);
  for (const int32_t chunk : {1, 3, 16, 39}) EXPECT_EQ(run(chunk), whole) << "chunk " << chunk;
}

TEST_P(Bits, DoNotDependOnThreads) {
  const auto run = [&](int threads) {
    return TestRunner(tiny_.path, {.kv_dtype = GetParam(), .threads = threads}).DecodeLogits(tiny_.ids, 9);
  };
  EXPECT_EQ(run(1), run(3));
}

TEST_P(Bits, DoNotDependOnTheNeighboursInABatch) {
  TestRunner test(tiny_.path, {.kv_dtype = GetParam(), .page_tokens = 4, .n_slots = 3});
  const std::vector<float> alone = test.DecodeLogits(std::span(tiny_.ids).first(20), 19);

  // The same sequence in slot 1 between two of other lengths, prefilled in one group.
  const std::vector<size_t> lengths = {4, 19, 31};
  std::vector<PrefillPrompt> prompts;
  for (size_t s = 0; s < lengths.size(); ++s) {
    const Slot slot{static_cast<int32_t>(s)};
    test.Open({.slot = slot}, lengths[s], 0, 4);
    prompts.push_back({.context = std::span(tiny_.ids).first(lengths[s]), .targets = {{.slot = slot}}});
  }
  std::vector<float> first;
  const LogitsSink sink = [&](size_t prompt, size_t token, std::span<const float> logits) {
    EXPECT_EQ(token, lengths[prompt] - 1);
    if (prompt == 1) first.assign(logits.begin(), logits.end());
  };
  ASSERT_TRUE(test.runner().Prefill(prompts, {.logits = sink}).ok());
  std::vector<DecodeRow> rows;
  for (size_t s = 0; s < lengths.size(); ++s) {
    rows.push_back({.slot = Slot{static_cast<int32_t>(s)},
                    .token = tiny_.ids[lengths[s]],
                    .position = Position{static_cast<int32_t>(lengths[s])}});
  }
  const std::vector<float> step = test.Step(rows);
  EXPECT_EQ(first, std::vector<float>(alone.begin(), alone.begin() + tiny_.vocabulary));
  EXPECT_EQ(std::vector<float>(step.begin() + tiny_.vocabulary, step.begin() + 2 * tiny_.vocabulary),
            std::vector<float>(alone.begin() + tiny_.vocabulary, alone.end()));
  for (size_t s = 0; s < lengths.size(); ++s) test.runner().table().Release(Slot{static_cast<int32_t>(s)});
}

INSTANTIATE_TEST_SUITE_P(All, Bits, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& param_info) { return std::string(Traits(param_info.param).name); });

// Several slots of one prompt (n samples) each get the prompt's entries; a dropped prompt leaves its slots alone.
TEST(PrefillGroup, FillsEverySlotOfAPromptAndNoneOfADroppedOne) {
  const Tiny tiny("qwen2");
  TestRunner test(tiny.path, {.page_tokens = 4, .n_slots = 3});
  const std::span<const TokenId> prompt = std::span(tiny.ids).first(10);
  for (int32_t s = 0; s < 3; ++s) test.Open({.slot = Slot{s}}, 10, 0, 2);
  const std::vector<PrefillPrompt> prompts = {
      {.context = std::span(tiny.ids).subspan(3, 10), .targets = {{.slot = Slot{0}}}},
      {.context = prompt, .targets = {{.slot = Slot{1}}, {.slot = Slot{2}}}}};
  PrefillGroup group = *test.runner().BeginPrefill(prompts);
  group.Drop(0);
  EXPECT_FALSE(group.empty());
  test.runner().table().Release(Slot{0});
  while (!group.done()) {
    const LogitsSink sink = [&](size_t p, size_t, std::span<const float>) { EXPECT_EQ(p, 1u); };
    ASSERT_TRUE(test.runner().RunPrefillUnit(group, {.logits = sink}).ok());
  }
  const std::vector<DecodeRow> rows = {{.slot = Slot{1}, .token = 5, .position = Position{10}},
                                       {.slot = Slot{2}, .token = 5, .position = Position{10}}};
  const std::vector<float> step = test.Step(rows);
  EXPECT_TRUE(std::equal(step.begin(), step.begin() + step.size() / 2, step.begin() + step.size() / 2));
  group.Drop(1);
  EXPECT_TRUE(group.empty());
  test.runner().table().Release(Slot{1});
  test.runner().table().Release(Slot{2});
}

// Position and length are different numbers: a sequence whose heads hold fewer entries than its text has tokens goes on
// at the text's positions. The same entries at other positions must give other logits.
TEST(Decode, PositionIsNotLength) {
  const Tiny tiny("llama-group3");
  TestRunner test(tiny.path, {.n_slots = 2});
  const std::vector<float> there = test.DecodeLogits(std::span(tiny.ids).first(11), 10);
  test.Open({.slot = Slot{0}}, 10, 0, 1);
  test.Prefill({.context = std::span(tiny.ids).first(10), .targets = {{.slot = Slot{0}}}});
  const DecodeRow later{.slot = Slot{0}, .token = tiny.ids[10], .position = Position{25}};
  EXPECT_GT(WorstDifference(test.Step({&later, 1}), std::span(there).subspan(tiny.vocabulary)), 0.01);
  test.runner().table().Release(Slot{0});
}

}  // namespace
}  // namespace lukv
