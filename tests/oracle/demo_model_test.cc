// The naive forward on the demo model against transformers (float32): GGUF's tensor order, RoPE layout and quantised
// values on a real file. The first tokens of each text; the engine's own tests go through all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/oracle/golden_files.h"
#include "tests/oracle/naive_forward.h"

namespace lukv {
namespace {

constexpr size_t kTokens = 16;

class DemoText : public testing::TestWithParam<std::string> {};

TEST_P(DemoText, BeginsAsInTransformers) {
  const auto weights = OpenWeights(DemoModelPath());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const std::string base = "models/demo/" + GetParam();
  auto ids = ReadGoldenJson(base + ".json")["ids"].get<std::vector<int32_t>>();
  const std::vector<float> next_logprob = ReadGoldenF32(base + ".next_logprob.f32.bin");
  const std::vector<int32_t> argmax = ReadGoldenI32(base + ".argmax.i32.bin");
  const std::vector<float> gap = ReadGoldenF32(base + ".gap.f32.bin");
  ASSERT_GT(ids.size(), kTokens);

  const std::vector<double> logits = NaiveForward(**weights, std::span(ids).first(kTokens));
  const size_t vocabulary = logits.size() / kTokens;
  for (size_t t = 0; t < kTokens; ++t) {
    const std::span<const double> row = std::span(logits).subspan(t * vocabulary, vocabulary);
    const size_t best = std::max_element(row.begin(), row.end()) - row.begin();
    double sum = 0;
    for (const double logit : row) sum += std::exp(logit - row[best]);
    EXPECT_NEAR(row[ids[t + 1]] - row[best] - std::log(sum), next_logprob[t], 1e-3) << "position " << t;
    if (gap[t] > 2e-3f) {
      EXPECT_EQ(static_cast<int32_t>(best), argmax[t]) << "position " << t;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, DemoText, testing::Values("prose", "code", "mixed"),
                         [](const auto& param_info) { return param_info.param; });

}  // namespace
}  // namespace lukv
