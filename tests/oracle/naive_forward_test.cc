// The naive forward against transformers (float32), for every tiny model; so the reader of Hugging Face folders, too.
#include "tests/oracle/naive_forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

class TinyModel : public testing::TestWithParam<std::string> {};

TEST_P(TinyModel, GivesTheLogitsOfTransformers) {
  const auto weights = OpenWeights(GoldenPath("models/tiny/" + GetParam()));
  ASSERT_TRUE(weights.ok()) << weights.status();
  const nlohmann::json golden = ReadGoldenJson("models/tiny/" + GetParam() + ".json");
  const auto ids = golden["ids"].get<std::vector<int32_t>>();
  const std::vector<float> expected = ReadGoldenF32("models/tiny/" + GetParam() + ".logits.f32.bin");
  ASSERT_EQ((*weights)->config().vocabulary, golden["vocabulary"].get<int32_t>());

  const std::vector<double> logits = NaiveForward(**weights, ids);
  ASSERT_EQ(logits.size(), expected.size());
  double worst = 0;
  for (size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - expected[i]));
  // Logits reach 9; the difference is float32 rounding in transformers.
  EXPECT_LT(worst, 5e-5);
  RecordProperty("largest_difference", std::to_string(worst));
}

TEST_P(TinyModel, HasTheFrequenciesOfTransformers) {
  const auto weights = OpenWeights(GoldenPath("models/tiny/" + GetParam()));
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto expected = ReadGoldenJson("models/tiny/" + GetParam() + ".json")["inverse_frequency"];
  const std::vector<float> frequencies = InverseFrequencies((*weights)->config());
  ASSERT_EQ(frequencies.size(), expected.size());
  for (size_t i = 0; i < frequencies.size(); ++i) {
    // transformers takes the power in float32.
    EXPECT_NEAR(frequencies[i] / expected[i].get<double>(), 1.0, 1e-6) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TinyModel,
                         testing::Values("llama-group3", "llama-llama3-rope", "llama-linear-rope", "llama-biases",
                                         "mistral-window", "mistral-wide", "qwen2", "qwen2-sharded", "qwen3",
                                         "qwen3-tied"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace lukv
