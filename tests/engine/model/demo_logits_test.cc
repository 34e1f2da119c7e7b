// The demo model against transformers (float32, same file dequantised): log-probabilities and greedy continuations of
// the exact path, and how far the fast path is from the exact one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/engine/model/runner_fixture.h"
#include "tests/oracle/golden_files.h"

namespace lukv {
namespace {

constexpr float kTolerance = 0.02f;
const std::vector<std::string> kTexts = {"prose", "code", "mixed"};

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

TestRunnerOptions FastPath(int32_t tokens) {
  return {.compute = CpuCompute::kInt8, .kv_dtype = DType::kBF16, .max_context = tokens};
}

// What the served default (int8 activations, bf16 cache) may cost. Registered once per instruction set.
constexpr size_t kGuardTokens = 500;  // Of each text.
constexpr double kMaxMeanKl = 0.003;  // nat
constexpr double kMinAgreement = 0.98;
constexpr double kMaxPerplexityRatio = 1.005;

// Mean KL divergence from the exact path and how often both have the same best token.
TEST(DemoFastPath, IsNearTheExactOne) {
  size_t agreeing = 0, tokens = 0;
  for (const std::string& name : kTexts) {
    Text text(name);
    text.ids.resize(kGuardTokens);
    const auto n = static_cast<int32_t>(kGuardTokens);
    std::vector<float> exact = TestRunner(DemoModelPath(), {.max_context = n}).PrefillLogits(text.ids);
    TestRunner fast_runner(DemoModelPath(), FastPath(n));
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
    kl /= n;
    std::printf("%s: mean KL of int8 activations and bf16 KV %.5f nat, top-1 agreement %.2f %% of %d tokens\n",
                name.c_str(), kl, 100.0 * static_cast<double>(agree) / n, n);
    EXPECT_LE(kl, kMaxMeanKl) << name;
    agreeing += agree;
    tokens += text.ids.size();
  }
  const double agreement = static_cast<double>(agreeing) / static_cast<double>(tokens);
  std::printf("all: top-1 agreement %.2f %%\n", 100 * agreement);
  EXPECT_GE(agreement, kMinAgreement);
}

// Perplexity as llama.cpp's llama-perplexity defines it: the second half of every full window of a text. Of the three
// texts together, for llama.cpp rounds activations, too: on one text alone it is up to 1.2 % away from either path.
TEST(DemoFastPath, HasThePerplexityOfLlamaCpp) {
  const nlohmann::json golden = ReadGoldenJson("models/demo/llama_perplexity.json");
  const auto window = golden["window"].get<size_t>();
  TestRunner runner(DemoModelPath(), FastPath(static_cast<int32_t>(window)));
  const size_t vocabulary = static_cast<size_t>(runner.vocabulary());
  double ours = 0, theirs = 0;  // Sums of negative log-likelihoods.
  size_t tokens = 0;
  for (const std::string& name : kTexts) {
    const Text text(name);
    double nll = 0;
    size_t n = 0;
    for (size_t first = 0; first + window <= text.ids.size(); first += window) {
      const std::span<const TokenId> ids(text.ids.data() + first, window);
      std::vector<float> logprobs = runner.PrefillLogits(ids);
      ToLogprobs(logprobs, vocabulary);
      for (size_t t = window / 2; t + 1 < window; ++t) {
        nll -= logprobs[t * vocabulary + static_cast<size_t>(ids[t + 1])];
        ++n;
      }
    }
    const auto perplexity = golden["perplexity"][name].get<double>();
    std::printf("%s: perplexity %.4f, llama.cpp's %.4f\n", name.c_str(), std::exp(nll / static_cast<double>(n)),
                perplexity);
    ours += nll;
    theirs += std::log(perplexity) * static_cast<double>(n);
    tokens += n;
  }
  const double ratio = std::exp((ours - theirs) / static_cast<double>(tokens));
  std::printf("all: perplexity %.4f of llama.cpp's\n", ratio);
  EXPECT_LE(ratio, kMaxPerplexityRatio);
  EXPECT_GE(ratio, 1 / kMaxPerplexityRatio);
}

INSTANTIATE_TEST_SUITE_P(All, DemoText, testing::ValuesIn(kTexts),
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
