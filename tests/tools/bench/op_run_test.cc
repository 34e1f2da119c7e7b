// The ops of a tiny model on the CPU: which there are, how often, and what they add up to. No times: those belong to
// the machine.
#include "tools/bench/op_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "tools/bench/dummy_weights.h"
#include "tools/bench/presets.h"

namespace lukv {
namespace {

constexpr int32_t kPrompt = 50;
constexpr int32_t kChunk = 32;
constexpr int32_t kBatch = 2;
constexpr int32_t kSteps = 3;

std::unique_ptr<BenchModel> TinyModel() {
  auto weights = DummyWeights(*PresetConfig("tiny"), DummyValues::kRandom);
  auto backend = MakeCpuBackend({.threads = 1});
  EXPECT_TRUE(weights.ok() && backend.ok());
  auto model = BenchModel::Make(
      *std::move(weights), *std::move(backend),
      {.batch = kBatch, .entries = kPrompt + kSteps + 1, .prefill_chunk = kChunk, .page_tokens = 16}, 1);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

OpSum Find(const PhaseOps& phase, const std::string& op) {
  for (const OpSum& sum : phase.ops) {
    if (sum.op == op) return sum;
  }
  ADD_FAILURE() << "no " << op << " in " << phase.phase;
  return {};
}

std::vector<std::string> Names(const PhaseOps& phase) {
  std::vector<std::string> names;
  for (const OpSum& sum : phase.ops) names.push_back(sum.op);
  return names;
}

// 2 layers of 4 query heads over 2 kv heads of 64, hidden 128, ffn 192, 256 tokens; f32 activations, bf16 KV.
TEST(OpRun, SumsOfATinyModel) {
  const std::unique_ptr<BenchModel> model = TinyModel();
  const auto phases = MeasureOps(*model, kBatch, kPrompt, kSteps);
  ASSERT_TRUE(phases.ok()) << phases.status();
  ASSERT_EQ(phases->size(), 5u);
  const PhaseOps& prefill = (*phases)[0];
  const PhaseOps& decode = (*phases)[1];

  EXPECT_EQ(prefill.phase, "prefill");
  // Chunks of 32 and 18 in the first layer; of the second the last token alone leaves the attention.
  EXPECT_EQ(Find(prefill, "Linear 512x128").calls, 4);
  EXPECT_EQ(Find(prefill, "Linear 512x128").cost.flops, 2 * 2 * 50 * 512 * 128);
  const OpSum attention = Find(prefill, "PrefillAttention");
  EXPECT_EQ(attention.calls, 3);
  EXPECT_EQ(attention.cost.flops, 4 * 64 * 4 * (50 * 51 / 2 + 50));
  // q and out of 51 rows; staging rows 32 + 50 + 50 of 2 heads.
  EXPECT_EQ(attention.cost.bytes, 2 * 51 * 256 * 4 + 132 * 2 * 2 * 64 * 2);
  EXPECT_EQ(Find(prefill, "Linear 256x128").calls, 1);
  EXPECT_EQ(Find(prefill, "Compact").cost.bytes, 2 * 50 * 2 * 4 * 64 * 2);

  EXPECT_EQ(decode.phase, "decode");
  const OpSum paged = Find(decode, "PagedAttention");
  EXPECT_EQ(paged.calls, kSteps * 2);
  // One step was not recorded: heads hold 52, 53 and 54 entries.
  const int64_t entries = 2 * kBatch * 2 * (52 + 53 + 54);
  EXPECT_EQ(paged.cost.flops, 4 * 64 * 2 * entries);
  EXPECT_EQ(paged.cost.bytes, entries * 2 * 64 * 2 + kSteps * 2 * 2 * kBatch * 256 * 4);
  EXPECT_EQ(Find(decode, "Linear 256x128").calls, kSteps);
  EXPECT_EQ(Find(decode, "Sample").calls, kSteps);

  const std::vector<std::string> snapkv = {"GatherRows", "ScoreSnapKv", "SelectTop", "Compact"};
  const std::vector<std::string> keydiff = {"ScoreKeyDiff", "SelectTop", "Compact"};
  const std::vector<std::string> expected = {"QueryMoments", "ScoreExpectedAttention", "SelectTop", "Compact"};
  EXPECT_EQ((*phases)[2].phase, "eviction snapkv");
  EXPECT_EQ(Names((*phases)[2]), snapkv);
  EXPECT_EQ((*phases)[3].phase, "eviction keydiff");
  EXPECT_EQ(Names((*phases)[3]), keydiff);
  EXPECT_EQ((*phases)[4].phase, "eviction expected_attention");
  EXPECT_EQ(Names((*phases)[4]), expected);
  // A fifth of 50 entries, rounded as kvpress does, in 2 heads of 2 layers.
  EXPECT_EQ(Find((*phases)[3], "Compact").cost.bytes, 2 * 2 * 9 * (4 * 64 * 2 + 4));
  EXPECT_EQ(Find((*phases)[3], "SelectTop").cost.bytes, 2 * (2 * 50 + 3 + 2 * 9) * 4);
}

TEST(OpRun, ModelIsAsBeforeAfterwards) {
  const std::unique_ptr<BenchModel> model = TinyModel();
  ASSERT_TRUE(MeasureOps(*model, kBatch, kPrompt, 0).ok());
  EXPECT_EQ(model->runner().pool().used(), 0u);
  ASSERT_TRUE(MeasureOps(*model, kBatch, kPrompt, kSteps).ok());
  EXPECT_EQ(model->runner().pool().used(), 0u);
}

TEST(OpTimer, RecordsBetweenStartAndStopOnly) {
  const std::unique_ptr<BenchModel> model = TinyModel();
  const auto prefill = [&] {
    ASSERT_TRUE(model->Prefill(Slot{0}, kPrompt, nullptr, 0).ok());
    model->Release(1);
  };
  prefill();
  ASSERT_TRUE(model->backend().Start(model->Lengths(0, nullptr)).ok());
  prefill();
  const OpRecord first = model->backend().Stop();
  prefill();
  ASSERT_TRUE(model->backend().Start(model->Lengths(0, nullptr)).ok());
  prefill();
  const OpRecord second = model->backend().Stop();
  ASSERT_EQ(first.sums.size(), second.sums.size());
  int64_t calls = 0;
  for (size_t i = 0; i < first.sums.size(); ++i) {
    EXPECT_EQ(first.sums[i].op, second.sums[i].op);
    EXPECT_EQ(first.sums[i].calls, second.sums[i].calls) << first.sums[i].op;
    EXPECT_GE(first.sums[i].seconds, 0);
    calls += first.sums[i].calls;
  }
  // Every call is an event, one after the other.
  EXPECT_EQ(first.events.size(), static_cast<size_t>(calls));
  for (size_t i = 1; i < first.events.size(); ++i) EXPECT_GE(first.events[i].start, first.events[i - 1].start);
}

}  // namespace
}  // namespace lukv
