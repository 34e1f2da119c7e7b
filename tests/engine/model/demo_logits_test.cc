// The demo model against transformers (float32, same file dequantised): log-probabilities and greedy continuations of
// the exact path, and how far the fast path is from the exact one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

constexpr float kTolerance = 0.02f;

struct Text {
  explicit Text(const std::string& name) {
    const std::string base = "models/demo/" + name;
    const nlohmann::json json = ReadGoldenJson(base + ".json");
    ids = json["ids"].get<std::vector<TokenId>>();
    sampled_positions = json["sampled_positions"].get<std::vector<size_t>>();
    sampled_ids = json["sampled_ids"].get<std::vector<size_t>>();
    next_logprob = ReadGoldenF32(base + ".next_logprob.f32.bin");
    argmax = ReadGoldenI32(base + ".argmax.i32.bin");
    gap = ReadGoldenF32(base + ".gap.f32.bin");
    sampled_logprob = ReadGoldenF32(base + ".sampled_logprob.f32.bin");
  }
  std::vector<TokenId> ids;
  std::vector<size_t> sampled_positions, sampled_ids;
  std::vector<float> next_logprob, gap, sampled_logprob;
  std::vector<int32_t> argmax;
};

// In place: logits [tokens, vocabulary] become log-probabilities.
void ToLogprobs(std::vector<float>& logits, size_t vocabulary) {
  for (size_t row = 0; row < logits.size(); row += vocabulary) {
    const auto begin = logits.begin() + static_cast<ptrdiff_t>(row);
    const auto end = begin + static_cast<ptrdiff_t>(vocabulary);
    const double max = *std::max_element(begin, end);
    double sum = 0;
    for (auto it = begin; it != end; ++it) sum += std::exp(*it - max);
    const double log_sum = max + std::log(sum);
    for (auto it = begin; it != end; ++it) *it = static_cast<float>(*it - log_sum);
  }
}

size_t ArgMax(const std::vector<float>& values, size_t row, size_t columns) {
  const auto begin = values.begin() + static_cast<ptrdiff_t>(row * columns);
  return static_cast<size_t>(std::max_element(begin, begin + static_cast<ptrdiff_t>(columns)) - begin);
}

class DemoText : public testing::TestWithParam<std::string> {};

TEST_P(DemoText, ExactPathHasTheLogprobsOfTransformers) {
  const Text text(GetParam());
  ASSERT_GE(text.ids.size(), 500u);
  TestRunner test(DemoModelPath(), {.max_context = static_cast<int32_t>(text.ids.size())});
  std::vector<float> logprobs = test.PrefillLogits(text.ids);
  const size_t vocabulary = static_cast<size_t>(test.vocabulary());
  ToLogprobs(logprobs, vocabulary);

  float worst = 0;
  for (size_t t = 0; t + 1 < text.ids.size(); ++t) {
    const float ours = logprobs[t * vocabulary + static_cast<size_t>(text.ids[t + 1])];
    worst = std::max(worst, std::abs(ours - text.next_logprob[t]));
  }
  for (size_t p = 0; p < text.sampled_positions.size(); ++p) {
    for (size_t i = 0; i < text.sampled_ids.size(); ++i) {
      const float ours = logprobs[text.sampled_positions[p] * vocabulary + text.sampled_ids[i]];
      worst = std::max(worst, std::abs(ours - text.sampled_logprob[p * text.sampled_ids.size() + i]));
    }
  }
  std::printf("%s: largest difference of a log-probability %.5f\n", GetParam().c_str(), static_cast<double>(worst));
  EXPECT_LE(worst, kTolerance);
  for (size_t t = 0; t < text.ids.size(); ++t) {
    if (text.gap[t] > kTolerance) {
      EXPECT_EQ(ArgMax(logprobs, t, vocabulary), static_cast<size_t>(text.argmax[t])) << "position " << t;
    }
  }
}

// Mean KL divergence of the served default (int8 activations, bf16 cache) from the exact path.
TEST_P(DemoText, FastPathIsNear) {
  const Text text(GetParam());
  const int32_t tokens = static_cast<int32_t>(text.ids.size());
  std::vector<float> exact = TestRunner(DemoModelPath(), {.max_context = tokens}).PrefillLogits(text.ids);
  TestRunner fast_runner(DemoModelPath(),
                         {.compute = CpuCompute::kInt8, .kv_dtype = DType::kBF16, .max_context = tokens});
  std::vector<float> fast = fast_runner.PrefillLogits(text.ids);
  const size_t vocabulary = static_cast<size_t>(fast_runner.vocabulary());
  ToLogprobs(exact, vocabulary);
  ToLogprobs(fast, vocabulary);
  double kl = 0;
  size_t agree = 0;
  for (size_t t = 0; t < text.ids.size(); ++t) {
    for (size_t i = t * vocabulary; i < (t + 1) * vocabulary; ++i) {
      kl += std::exp(static_cast<double>(exact[i])) * (exact[i] - fast[i]);
    }
    agree += ArgMax(exact, t, vocabulary) == ArgMax(fast, t, vocabulary);
  }
  kl /= tokens;
  std::printf("%s: mean KL of int8 activations and bf16 KV %.5f nat, top-1 agreement %.2f %%\n", GetParam().c_str(), kl,
              100.0 * static_cast<double>(agree) / tokens);
  EXPECT_LE(kl, 0.0015);
  EXPECT_GE(static_cast<double>(agree) / tokens, 0.97);
}

INSTANTIATE_TEST_SUITE_P(All, DemoText, testing::Values("prose", "code", "mixed"),
                         [](const auto& param_info) { return param_info.param; });

TEST(DemoGreedy, ContinuesAsTransformersDoes) {
  TestRunner test(DemoModelPath(), {.max_context = 1024});
  for (const nlohmann::json& golden : ReadGoldenJson("models/demo/greedy.json")) {
    const auto prompt = golden["ids"].get<std::vector<TokenId>>();
    const auto continuation = golden["continuation"].get<std::vector<TokenId>>();
    EXPECT_EQ(test.Greedy(prompt, static_cast<int32_t>(continuation.size())), continuation)
        << golden["prompt"].get<std::string>().substr(0, 60);
  }
}

}  // namespace
}  // namespace lukv
