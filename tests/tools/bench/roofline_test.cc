#include "tools/bench/roofline.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tools/bench/presets.h"

namespace lukv {
namespace {

constexpr Peaks kH100{.bytes_per_s = 3.0e12, .flops_per_s = 800e12};

const std::vector<RooflineCase>& Llama() {
  static const auto* const cases =
      new std::vector<RooflineCase>(*Roofline(*PresetConfig("llama-3.1-8b"), {1, 16}, {32768, 131072}, 2048, kH100));
  return *cases;
}

const RooflineCase& Find(const std::string& phase, int32_t batch, int32_t context, bool full) {
  for (const RooflineCase& c : Llama()) {
    if (c.ops.phase == phase && c.batch == batch && c.context == context && (c.kept == 1) == full) return c;
  }
  ADD_FAILURE() << phase << " " << batch << " " << context;
  return Llama().front();
}

OpSum Op(const RooflineCase& c, const std::string& op) {
  for (const OpSum& sum : c.ops.ops) {
    if (sum.op == op) return sum;
  }
  ADD_FAILURE() << "no " << op;
  return {};
}

double DecodeMs(int32_t batch, int32_t context, bool full) {
  return 1e3 * Find("decode", batch, context, full).floor_s;
}

// By hand: 15.0 GB of weights, 131,072 bytes of KV per token, at 3 TB/s.
TEST(Roofline, DecodeOfAnEightBillionModelOnAnH100) {
  EXPECT_NEAR(DecodeMs(1, 32768, true), 6.4, 0.05);
  EXPECT_NEAR(DecodeMs(1, 32768, false), 5.3, 0.05);
  EXPECT_NEAR(DecodeMs(1, 131072, true), 10.7, 0.05);
  EXPECT_NEAR(DecodeMs(1, 131072, false), 6.2, 0.06);
  EXPECT_NEAR(DecodeMs(16, 32768, true), 27.9, 0.1);
  EXPECT_NEAR(DecodeMs(16, 32768, false), 9.6, 0.1);
  EXPECT_NEAR(DecodeMs(16, 131072, false), 23.3, 0.1);
  EXPECT_NEAR(1e-9 * static_cast<double>(Find("decode", 1, 131072, true).resident), 33.2, 0.05);
}

TEST(Roofline, DecodeReadsEveryEntryOnce) {
  const RooflineCase& c = Find("decode", 16, 32768, true);
  const OpSum attention = Op(c, "PagedAttention");
  EXPECT_EQ(attention.calls, 32);
  // K and V of 8 heads of 128; q and out of 16 rows.
  EXPECT_EQ(attention.cost.bytes, int64_t{32} * 16 * (32768 * 8 * 2 * 256 + 2 * 4096 * 2));
  EXPECT_EQ(attention.cost.flops, int64_t{32} * 16 * 32768 * 32 * 128 * 4);
  EXPECT_EQ(Op(c, "Linear 28672x4096").cost.flops, int64_t{32} * 16 * 28672 * 4096 * 2);
}

TEST(Roofline, PrefillIsItsProductsAndItsAttention) {
  const RooflineCase& c = Find("prefill", 1, 131072, true);
  const int64_t n = 131072;
  // All layers but the last, of which one row goes on.
  EXPECT_EQ(Op(c, "PrefillAttention").cost.flops, int64_t{4} * 4096 * (31 * (n * (n + 1) / 2) + n));
  EXPECT_EQ(Op(c, "Linear 6144x4096").cost.flops, 32 * n * 6144 * 4096 * 2);
  EXPECT_EQ(Op(c, "Linear 4096x14336").cost.flops, (31 * n + 1) * 4096 * (2 * 14336 + 1));  // And a sum.
  EXPECT_NEAR(c.floor_s, 7.9, 0.05);
  EXPECT_NEAR(Find("prefill", 1, 32768, true).floor_s, 0.95, 0.01);
}

TEST(Roofline, EvictionIsASmallPartOfAPrefill) {
  EXPECT_NEAR(1e3 * Find("eviction snapkv", 1, 131072, false).floor_s, 5.3, 0.1);
  EXPECT_NEAR(1e3 * Find("eviction expected_attention", 1, 131072, false).floor_s, 21, 0.5);
}

}  // namespace
}  // namespace lukv
