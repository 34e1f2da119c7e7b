#include "tools/bench/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/model/weight_source.h"
#include "tools/bench/dummy_weights.h"

namespace lukv {
namespace {

// Of the models' safetensors, as their pages on huggingface.co say.
TEST(Presets, HaveThePublishedNumbersOfParameters) {
  EXPECT_EQ(ParameterCount(*PresetConfig("llama-3.1-8b")), 8030261248);
  EXPECT_EQ(ParameterCount(*PresetConfig("llama-3.2-1b")), 1235814400);
  EXPECT_EQ(ParameterCount(*PresetConfig("qwen2.5-7b")), 7615616512);
  EXPECT_EQ(ParameterCount(*PresetConfig("smollm2-135m")), 134515008);
}

TEST(Presets, AreConfigsThatTheForwardTakes) {
  for (const std::string& name : PresetNames()) EXPECT_TRUE(PresetConfig(name)->Validate().ok()) << name;
}

TEST(Presets, UnknownOnesAreRefusedWithTheKnown) {
  const auto config = PresetConfig("gpt-2");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()),
              testing::AllOf(testing::HasSubstr("gpt-2"), testing::HasSubstr("qwen2.5-7b")));
}

TEST(DummyWeights, AreViewsOfOneBuffer) {
  const auto weights = DummyWeights(*PresetConfig("tiny"), DummyValues::kRandom);
  ASSERT_TRUE(weights.ok());
  const auto down = (*weights)->Tensor("blk.1.ffn_down.weight");
  const auto norm = (*weights)->Tensor("output_norm.weight");
  ASSERT_TRUE(down.ok() && norm.ok());
  EXPECT_EQ(down->rows, 128);
  EXPECT_EQ(down->cols, 192);
  EXPECT_EQ(norm->rows, 1);
  EXPECT_EQ(down->data, norm->data);
  EXPECT_EQ((*weights)->Tensor("blk.2.ffn_down.weight").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE((*weights)->Has("blk.0.attn_q.bias"));
}

TEST(DummyWeights, AreSmallAndOfBothSigns) {
  constexpr int64_t kN = 4099;
  std::vector<uint16_t> bits(kN);
  FillDummy(bits.data(), kN);
  std::vector<float> values(kN);
  Dequantize(DType::kBF16, reinterpret_cast<const std::byte*>(bits.data()), kN, values.data());
  int positive = 0;
  for (const float value : values) {
    EXPECT_GE(std::abs(value), 0x1p-6f);
    EXPECT_LT(std::abs(value), 0x1p-5f);
    positive += value > 0;
  }
  EXPECT_NEAR(positive, kN / 2, 200);
}

TEST(DummyWeights, ZerosAreZero) {
  const auto weights = DummyWeights(*PresetConfig("tiny"), DummyValues::kZero);
  ASSERT_TRUE(weights.ok());
  float value = 1;
  Dequantize(DType::kBF16, (*weights)->Tensor("output.weight")->data, 1, &value);
  EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace lukv
