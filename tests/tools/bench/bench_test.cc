// The whole of lukv-bench on the CPU, as JSON; no value that the machine decides.
#include "tools/bench/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"

namespace lukv {
namespace {

BenchOptions Tiny() {
  return {.dummy_weights = "tiny",
          .device = "cpu",
          .threads = 1,
          .prompt = 40,
          .gen = 3,
          .batch = 2,
          .repeat = 2,
          .ops = true,
          .json = true};
}

TEST(Bench, WritesSpeedsAndOps) {
  const auto report = RunBench(Tiny());
  ASSERT_TRUE(report.ok()) << report.status();
  const auto json = nlohmann::json::parse(*report);
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_EQ(json["prompt"], 40);
  EXPECT_THAT(json["device"].get<std::string>(), testing::HasSubstr("cpu"));
  EXPECT_GT(json["prefill_tokens_per_s"]["median"], 0);
  EXPECT_GT(json["decode_tokens_per_s"]["median"], 0);
  EXPECT_GT(json["copy_bytes_per_s"], 0);
  EXPECT_GT(json["product_flops_per_s"], 0);
  // 43 tokens of 2 sequences, 2 layers, 2 heads, K and V of 64 in bf16.
  EXPECT_EQ(json["kv_bytes_full"], 43 * 2 * 2 * 2 * 2 * 64 * 2);
  ASSERT_EQ(json["ops"].size(), 5u);
  for (const auto& phase : json["ops"]) {
    ASSERT_FALSE(phase.empty());
    for (const auto& op : phase) {
      EXPECT_GT(op["calls"], 0) << op;
      EXPECT_GT(op["bytes"], 0) << op;
    }
  }
}

TEST(Bench, WritesATraceOfItsOps) {
  BenchOptions options = Tiny();
  options.trace = testing::TempDir() + "/trace.json";
  ASSERT_TRUE(RunBench(options).ok());
  const auto trace = nlohmann::json::parse(*ReadWholeFile(options.trace, 1 << 20));
  std::map<int, int> calls;
  std::vector<std::string> phases;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "M") {
      phases.push_back(event["args"]["name"]);
      continue;
    }
    EXPECT_EQ(event["ph"], "X");
    EXPECT_GE(event["dur"], 0);
    ++calls[event["tid"].get<int>()];
  }
  EXPECT_THAT(phases, testing::ElementsAre("prefill", "decode", "eviction snapkv", "eviction keydiff",
                                           "eviction expected_attention"));
  EXPECT_EQ(calls.size(), phases.size());
  options.trace = "/nowhere/trace.json";
  EXPECT_FALSE(RunBench(options).ok());
}

TEST(Bench, TextHasATableForEachPhase) {
  BenchOptions options = Tiny();
  options.json = false;
  options.policy = "uniform+keydiff@0.5";
  const auto report = RunBench(options);
  ASSERT_TRUE(report.ok()) << report.status();
  for (const char* words : {"device   cpu", "prefill  40 tokens", "evict    uniform+keydiff@0.5", "peaks    copy",
                            "eviction snapkv", "ScoreExpectedAttention", "PagedAttention", "\nsum"}) {
    EXPECT_THAT(*report, testing::HasSubstr(words));
  }
}

TEST(Bench, WithoutDecodeStepsThereIsNoDecodePhase) {
  BenchOptions options = Tiny();
  options.gen = 0;
  const auto report = RunBench(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(nlohmann::json::parse(*report)["ops"].contains("decode"));
}

TEST(Bench, RefusesWhatTheModelCannotHold) {
  BenchOptions options = Tiny();
  options.prompt = 5000;
  EXPECT_THAT(std::string(RunBench(options).status().message()), testing::HasSubstr("context is 4096"));
}

TEST(Bench, RandomWeightsHaveNoBudgetCurve) {
  BenchOptions options = Tiny();
  options.policy = "lukv+snapkv@0.8";
  EXPECT_EQ(RunBench(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Bench, RooflineNeedsNoDevice) {
  BenchOptions options{.roofline = "smollm2-135m", .json = true};
  const auto report = RunBench(options);
  ASSERT_TRUE(report.ok()) << report.status();
  const auto json = nlohmann::json::parse(*report);
  ASSERT_EQ(json["cases"].size(), 20u);
  EXPECT_EQ(json["bytes_per_s"], 3e12);
  options.json = false;
  EXPECT_THAT(*RunBench(options), testing::HasSubstr("smollm2-135m on a device of 3 TB/s and 800 TFLOP/s"));
}

}  // namespace
}  // namespace lukv
