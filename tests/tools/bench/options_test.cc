#include "tools/bench/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

namespace lukv {
namespace {

std::variant<BenchOptions, ExitRequest> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "lukv-bench");
  return ParseBenchOptions(static_cast<int>(arguments.size()), arguments.data());
}

BenchOptions Parsed(const std::vector<const char*>& arguments) {
  const auto parsed = Parse(arguments);
  const auto* exit = std::get_if<ExitRequest>(&parsed);
  EXPECT_EQ(exit, nullptr) << exit->text;
  return exit == nullptr ? std::get<BenchOptions>(parsed) : BenchOptions();
}

void ExpectRefused(const std::vector<const char*>& arguments, const std::string& words) {
  const auto parsed = Parse(arguments);
  const auto* exit = std::get_if<ExitRequest>(&parsed);
  ASSERT_NE(exit, nullptr) << words;
  EXPECT_EQ(exit->code, 2);
  EXPECT_THAT(exit->text, testing::HasSubstr(words));
}

TEST(BenchOptions, AModelIsRunWithoutOps) {
  const BenchOptions options = Parsed({"--model", "m.gguf", "--prompt", "100", "--batch", "3", "--json"});
  EXPECT_EQ(options.model, "m.gguf");
  EXPECT_EQ(options.prompt, 100);
  EXPECT_EQ(options.batch, 3);
  EXPECT_TRUE(options.json);
  EXPECT_FALSE(options.ops);
  EXPECT_TRUE(Parsed({"--model", "m.gguf", "--ops"}).ops);
}

TEST(BenchOptions, DummyWeightsImplyOps) { EXPECT_TRUE(Parsed({"--dummy-weights", "tiny"}).ops); }

TEST(BenchOptions, RooflineIsOfAnH100UnlessSaidOtherwise) {
  const BenchOptions h100 = Parsed({"--roofline", "llama-3.1-8b"});
  EXPECT_EQ(h100.peak_bandwidth, 3.0);
  EXPECT_EQ(h100.peak_flops, 800);
  const BenchOptions other = Parsed({"--roofline", "llama-3.1-8b", "--peak-bandwidth", "1.5", "--peak-flops", "250"});
  EXPECT_EQ(other.peak_bandwidth, 1.5);
  EXPECT_EQ(other.peak_flops, 250);
}

TEST(BenchOptions, WrongSettingsAreRefused) {
  ExpectRefused({}, "one of --model, --dummy-weights and --roofline is required");
  ExpectRefused({"--model", "m", "--dummy-weights", "tiny"}, "one of --model");
  ExpectRefused({"--dummy-weights", "llama"}, "llama-3.2-1b");
  ExpectRefused({"--roofline", "llama"}, "--roofline");
  ExpectRefused({"--roofline", "tiny", "--peak-flops", "0"}, "--peak-flops");
  ExpectRefused({"--model", "m", "--device", "gpu"}, "gpu");
  ExpectRefused({"--model", "m", "--policy", "half"}, "half");
  ExpectRefused({"--model", "m", "--batch", "0"}, "--batch");
}

}  // namespace
}  // namespace lukv
