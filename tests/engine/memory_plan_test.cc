#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/kv/device_page_table.h"

namespace lukv {
namespace {

using ::testing::HasSubstr;

// Llama-3.1-8B.
ModelConfig Shape() {
  ModelConfig config;
  config.n_layers = 32;
  config.n_heads = 32;
  config.n_kv_heads = 8;
  config.head_dim = 128;
  config.hidden = 4096;
  config.ffn = 14336;
  config.vocabulary = 128256;
  config.context_length = 131072;
  return config;
}

constexpr int64_t kGiB = int64_t{1} << 30;

RunnerOptions Options() { return {.page_tokens = 64, .n_slots = 16, .max_context = 131072, .prefill_chunk = 2048}; }

MemoryRequest On80GiB() {
  return {.before = {.total_bytes = 80 * kGiB, .free_bytes = 79 * kGiB},
          .weight_bytes = 15 * kGiB,
          .workspace_bytes = kGiB / 8,
          .activations = DType::kBF16,
          .utilization = 0.9};
}

TEST(MemoryPlan, PagesGetWhatIsLeft) {
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(On80GiB(), Shape(), Options());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->usable, static_cast<int64_t>(0.9 * 79 * kGiB));
  // kernels.md: 1 GiB of hidden states and 0.5 GiB of one layer's K and V for 128k tokens; ids, scores and kept rows.
  EXPECT_EQ(plan->staging, 131072 * (4096 * 2 + 8 + 2 * 8 * 128 * 2 + 8 * 8));
  EXPECT_EQ(plan->pages, plan->n_pages * 32768);
  EXPECT_LE(plan->sum(), plan->usable);
  EXPECT_GT(plan->sum() + 32768, plan->usable);
}

TEST(MemoryPlan, CountsTheBuffersThatARunnerAllocates) {
  // Logits of 32 rows, activations of 2,048 rows and the page table are the large ones.
  const int64_t bytes = ModelRunner::BufferBytes(Shape(), Options(), DType::kBF16);
  const int64_t activations = int64_t{2048} * (4096 + 6144 + 4096 + 4096 + 3 * 14336) * 2;
  const int64_t logits = int64_t{32} * 128256 * 4;
  const int64_t table = int64_t{16} * 256 * (2048 + 2) * 4;
  EXPECT_GT(bytes, activations + logits + table);
  EXPECT_LT(bytes, activations + logits + table + (1 << 20));
}

TEST(MemoryPlan, TakesTheKvMemoryThatWasAskedFor) {
  MemoryRequest request = On80GiB();
  request.kv_memory_bytes = 10 * kGiB + 5;
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(request, Shape(), Options());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->pages, 10 * kGiB);
  // A page for each kv head of each layer at least.
  request.kv_memory_bytes = 255 * 32768;
  EXPECT_EQ(PlanMemory(request, Shape(), Options()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MemoryPlan, RefusesWhatDoesNotFitWithTheSum) {
  MemoryRequest request = On80GiB();
  request.before.free_bytes = 17 * kGiB;
  const absl::Status refused = PlanMemory(request, Shape(), Options()).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  for (const char* part : {"weights 15360.0 MiB", "staging of the longest prompt", "KV pages 8.0 MiB", "usable are"}) {
    EXPECT_THAT(std::string(refused.message()), HasSubstr(part));
  }
  request = On80GiB();
  request.kv_memory_bytes = 60 * kGiB;
  EXPECT_EQ(PlanMemory(request, Shape(), Options()).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(MemoryPlan, OnAHostTakesTwoGiBUnlessTold) {
  MemoryRequest request = On80GiB();
  request.before.host = true;
  EXPECT_EQ(PlanMemory(request, Shape(), Options())->pages, 2 * kGiB);
  request.kv_memory_bytes = 3 * kGiB;
  EXPECT_EQ(PlanMemory(request, Shape(), Options())->pages, 3 * kGiB);
}

TEST(MemoryPlan, TheTableNamesEveryPart) {
  const MemoryPlan plan = *PlanMemory(On80GiB(), Shape(), Options());
  const std::string table = MemoryTable(plan);
  for (const auto& [name, bytes] : plan.parts()) EXPECT_THAT(table, HasSubstr(name));
  EXPECT_THAT(table, HasSubstr("15360.0 MiB"));
}

}  // namespace
}  // namespace lukv
