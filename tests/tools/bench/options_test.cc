#include "tools/bench/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "tests/tools/command_line.h"

namespace lukv {
namespace {

const CommandLine<BenchOptions> kBench("lukv-bench", ParseBenchOptions);

TEST(BenchOptions, AModelIsRunWithoutOps) {
  const BenchOptions options = kBench.Parsed({"--model", "m.gguf", "--prompt", "100", "--batch", "3", "--json"});
  EXPECT_EQ(options.model, "m.gguf");
  EXPECT_EQ(options.prompt, 100);
  EXPECT_EQ(options.batch, 3);
  EXPECT_TRUE(options.json);
  EXPECT_FALSE(options.ops);
  EXPECT_TRUE(kBench.Parsed({"--model", "m.gguf", "--ops"}).ops);
}

TEST(BenchOptions, DummyWeightsImplyOps) { EXPECT_TRUE(kBench.Parsed({"--dummy-weights", "tiny"}).ops); }

TEST(BenchOptions, RooflineIsOfAnH100UnlessSaidOtherwise) {
  const BenchOptions h100 = kBench.Parsed({"--roofline", "llama-3.1-8b"});
  EXPECT_EQ(h100.peak_bandwidth, 3.0);
  EXPECT_EQ(h100.peak_flops, 800);
  const BenchOptions other =
      kBench.Parsed({"--roofline", "llama-3.1-8b", "--peak-bandwidth", "1.5", "--peak-flops", "250"});
  EXPECT_EQ(other.peak_bandwidth, 1.5);
  EXPECT_EQ(other.peak_flops, 250);
}

TEST(BenchOptions, WrongSettingsAreRefused) {
  kBench.ExpectRefused({}, "one of --model, --dummy-weights and --roofline is required");
  kBench.ExpectRefused({"--model", "m", "--dummy-weights", "tiny"}, "one of --model");
  kBench.ExpectRefused({"--dummy-weights", "llama"}, "llama-3.2-1b");
  kBench.ExpectRefused({"--roofline", "llama"}, "--roofline");
  kBench.ExpectRefused({"--roofline", "tiny", "--peak-flops", "0"}, "--peak-flops");
  kBench.ExpectRefused({"--model", "m", "--device", "gpu"}, "gpu");
  kBench.ExpectRefused({"--model", "m", "--policy", "half"}, "half");
  kBench.ExpectRefused({"--model", "m", "--batch", "0"}, "--batch");
}

}  // namespace
}  // namespace lukv
