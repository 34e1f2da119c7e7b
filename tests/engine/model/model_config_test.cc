#include "engine/model/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/engine/model/status_matchers.h"

namespace lukv {
namespace {

ModelConfig Good() {
  ModelConfig config;
  config.architecture = "llama";
  config.n_layers = 2;
  config.n_heads = 6;
  config.n_kv_heads = 2;
  config.head_dim = 8;
  config.hidden = 48;
  config.ffn = 50;
  config.vocabulary = 100;
  config.context_length = 128;
  return config;
}

TEST(ModelConfig, TheGoodOneIsAccepted) { EXPECT_TRUE(Good().Validate().ok()) << Good().Validate(); }

TEST(ModelConfig, EachSenselessFieldIsNamed) {
  const float infinity = std::numeric_limits<float>::infinity();
  const struct {
    std::function<void(ModelConfig&)> change;
    std::string words;
  } cases[] = {
      {[](auto& c) { c.n_layers = 0; }, "n_layers is 0"},
      {[](auto& c) { c.n_heads = -1; }, "n_heads is -1"},
      {[](auto& c) { c.n_kv_heads = 0; }, "n_kv_heads is 0"},
      {[](auto& c) { c.n_kv_heads = 7; }, "n_kv_heads is 7; must be in [1, 6]"},
      {[](auto& c) { c.n_kv_heads = 4; }, "n_heads is 6; must be a multiple of n_kv_heads, which is 4"},
      {[](auto& c) { c.head_dim = 0; }, "head_dim is 0"},
      {[](auto& c) { c.head_dim = 7; }, "head_dim is 7; must be even"},
      {[](auto& c) { c.hidden = 1 << 30; }, "hidden is 1073741824"},
      {[](auto& c) { c.ffn = 0; }, "ffn is 0"},
      {[](auto& c) { c.vocabulary = INT32_MAX; }, "vocabulary is 2147483647"},
      {[](auto& c) { c.context_length = 0; }, "context_length is 0"},
      {[](auto& c) { c.sliding_window = -5; }, "sliding_window is -5"},
      {[](auto& c) { c.norm_epsilon = 0; }, "norm_epsilon is 0"},
      {[](auto& c) { c.norm_epsilon = std::nanf(""); }, "norm_epsilon is nan"},
      {[=](auto& c) { c.rope_base = infinity; }, "rope_base is inf"},
      {[](auto& c) { c.rope_factor = 0; }, "rope_factor is 0"},
      {[](auto& c) {
         c.rope_divisors = {1, 2, 3};
       },
       "the number of rope_divisors is 3; must be in [4, 4]"},
      {[](auto& c) {
         c.rope_divisors = {1, 2, -3, 4};
       },
       "a value of rope_divisors is -3"},
      {[](auto& c) { c.rope_scaling = RopeScaling::kLlama3; }, "rope_original_context is 0"},
      {[](auto& c) {
         c.rope_scaling = RopeScaling::kLlama3;
         c.rope_original_context = 64;
         c.rope_high_frequency_factor = c.rope_low_frequency_factor;
       },
       "rope_high_frequency_factor is 1; must be above rope_low_frequency_factor, which is 1"},
  };
  for (const auto& [change, words] : cases) {
    ModelConfig config = Good();
    change(config);
    ExpectStatus(config.Validate(), absl::StatusCode::kInvalidArgument, words);
  }
}

// Against transformers: tests/oracle/naive_forward_test.cc. Here, what needs no model.
TEST(InverseFrequencies, AreThePowersOfTheBase) {
  ModelConfig config = Good();
  const std::vector<float> frequencies = InverseFrequencies(config);
  ASSERT_EQ(frequencies.size(), 4u);
  EXPECT_FLOAT_EQ(frequencies[0], 1.0f);
  EXPECT_FLOAT_EQ(frequencies[1], 0.1f);
  EXPECT_FLOAT_EQ(frequencies[2], 0.01f);
  EXPECT_FLOAT_EQ(frequencies[3], 0.001f);
}

TEST(InverseFrequencies, LinearScalingAndDivisorsDivide) {
  ModelConfig config = Good();
  config.rope_scaling = RopeScaling::kLinear;
  config.rope_factor = 2;
  config.rope_divisors = {1, 1, 5, 10};
  const std::vector<float> frequencies = InverseFrequencies(config);
  EXPECT_FLOAT_EQ(frequencies[0], 0.5f);
  EXPECT_FLOAT_EQ(frequencies[1], 0.05f);
  EXPECT_FLOAT_EQ(frequencies[2], 0.001f);
  EXPECT_FLOAT_EQ(frequencies[3], 0.00005f);
}

TEST(InverseFrequencies, Llama3KeepsHighAndDividesLowFrequencies) {
  ModelConfig config = Good();
  config.rope_scaling = RopeScaling::kLlama3;
  config.rope_factor = 8;
  config.rope_low_frequency_factor = 1;
  config.rope_high_frequency_factor = 4;
  config.rope_original_context = 128;  // Bounds at wavelengths of 32 and 128; ours are 6.3, 63, 628, 6283.
  const std::vector<float> frequencies = InverseFrequencies(config);
  EXPECT_FLOAT_EQ(frequencies[0], 1.0f);
  EXPECT_GT(frequencies[1], 0.1f / 8);
  EXPECT_LT(frequencies[1], 0.1f);
  EXPECT_FLOAT_EQ(frequencies[2], 0.01f / 8);
  EXPECT_FLOAT_EQ(frequencies[3], 0.001f / 8);
}

}  // namespace
}  // namespace lukv
