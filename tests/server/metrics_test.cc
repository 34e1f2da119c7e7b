#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lukv {
namespace {

using testing::HasSubstr;
using testing::Not;

// An engine that has a reading and nothing else.
class StillEngine final : public Engine {
 public:
  explicit StillEngine(const EngineStats& stats) : stats_(stats) {}
  Ticket Submit(ValidRequest, std::shared_ptr<Outbox>) override { return 0; }
  void Cancel(Ticket) override {}
  void Finish(Ticket, int32_t, int32_t) override {}
  absl::StatusOr<std::shared_ptr<const EvictionPlan>> MakePlan(const Policy&, int32_t) const override {
    return nullptr;
  }
  const CurveSet& curves() const override { return curves_; }
  bool ReleaseContext(const ContextKey&) override { return false; }
  std::vector<RequestRow> Requests() const override { return {}; }
  absl::Duration StepAge() const override { return absl::ZeroDuration(); }
  EngineStats Stats() const override { return stats_; }
  const ModelInfo& info() const override { return info_; }

 private:
  const EngineStats stats_;
  const ModelInfo info_;
  const CurveSet curves_;
};

TEST(Metrics, HasEveryNameFromTheStart) {
  const Metrics metrics("m");
  const std::string page = metrics.Text();
  for (const char* name : {"vllm:num_requests_running",
                           "lukv_request_kv_freed_bytes",
                           "lukv_request_eviction_seconds",
                           "vllm:num_requests_waiting",
                           "vllm:kv_cache_usage_perc",
                           "vllm:cache_config_info",
                           "vllm:prompt_tokens_total",
                           "vllm:generation_tokens_total",
                           "vllm:request_success_total",
                           "vllm:time_to_first_token_seconds",
                           "vllm:inter_token_latency_seconds",
                           "vllm:e2e_request_latency_seconds",
                           "vllm:request_queue_time_seconds",
                           "vllm:request_prefill_time_seconds",
                           "vllm:request_decode_time_seconds",
                           "vllm:request_prompt_tokens",
                           "vllm:request_generation_tokens",
                           "lukv_kv_full_equivalent_bytes",
                           "lukv_kv_resident_bytes",
                           "lukv_kv_pages_used",
                           "lukv_kv_pages_total",
                           "lukv_prefill_units_total"}) {
    EXPECT_THAT(page, HasSubstr(std::string("# TYPE ") + name + " "));
  }
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

TEST(Metrics, ReadsTheEngineAtEachScrape) {
  const StillEngine engine({.running = 2,
                            .waiting = 3,
                            .pages_total = 200,
                            .pages_used = 50,
                            .prompt_tokens = 1000,
                            .generated_tokens = 77,
                            .prefill_units = 9,
                            .preemptions = 4,
                            .cache_query_tokens = 30,
                            .cache_hit_tokens = 20,
                            .decode_stall = absl::Milliseconds(1500),
                            .kv_bytes_full = 4096,
                            .kv_bytes_resident = 2048,
                            .layers = {{.full = 300, .kept = 60}, {.full = 300, .kept = 7}}});
  Metrics metrics("m");
  metrics.SetEngine(&engine, 64);
  const std::string page = metrics.Text();
  for (const char* line :
       {"vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 2\n",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 3\n",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n",
        "vllm:cache_config_info{block_size=\"64\",engine=\"0\",model_name=\"m\",num_gpu_blocks=\"200\"} 1\n",
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 1000\n",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"m\"} 77\n",
        "vllm:num_preemptions_total{engine=\"0\",model_name=\"m\"} 4\n",
        "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"m\"} 30\n",
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"m\"} 20\n",
        "lukv_decode_stall_seconds_total{engine=\"0\",model_name=\"m\"} 1.5\n",
        "lukv_prefill_units_total{engine=\"0\",model_name=\"m\"} 9\n",
        "lukv_kv_full_equivalent_bytes{engine=\"0\",model_name=\"m\"} 4096\n",
        "lukv_kv_resident_bytes{engine=\"0\",model_name=\"m\"} 2048\n",
        "lukv_kv_layer_context_entries{engine=\"0\",layer=\"1\",model_name=\"m\"} 300\n",
        "lukv_kv_layer_kept_entries{engine=\"0\",layer=\"0\",model_name=\"m\"} 60\n",
        "lukv_kv_layer_kept_entries{engine=\"0\",layer=\"1\",model_name=\"m\"} 7\n"}) {
    EXPECT_TRUE(page.find(line) != std::string::npos) << line;
  }
  metrics.SetEngine(nullptr, 0);
  EXPECT_THAT(metrics.Text(), HasSubstr("vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 0\n"));
}

TEST(Metrics, CountsWhatEnded) {
  Metrics metrics("m");
  metrics.OnSampleEnd(Outcome::kStop, 1);
  metrics.OnSampleEnd(Outcome::kAbort, 3);
  metrics.OnTokens(absl::Milliseconds(300), 3);
  Usage usage;
  usage.prompt_tokens = 12;
  usage.queue = absl::Seconds(2);
  metrics.OnRequestEnd(usage, "full", absl::Seconds(5));
  const std::string page = metrics.Text();
  for (const char* line :
       {"model_name=\"m\",finished_reason=\"stop\"} 1\n", "model_name=\"m\",finished_reason=\"abort\"} 3\n",
        "model_name=\"m\",finished_reason=\"length\"} 0\n",
        "vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"m\"} 3\n",
        "vllm:request_queue_time_seconds_sum{engine=\"0\",model_name=\"m\"} 2\n",
        "vllm:e2e_request_latency_seconds_sum{engine=\"0\",model_name=\"m\"} 5\n",
        "vllm:request_prompt_tokens_sum{engine=\"0\",model_name=\"m\"} 12\n",
        // Nothing was evicted.
        "lukv_request_kv_freed_bytes_count{engine=\"0\",model_name=\"m\"} 0\n"}) {
    EXPECT_TRUE(page.find(line) != std::string::npos) << line;
  }
}

TEST(Metrics, CountsWhatWasEvictedByPolicy) {
  Metrics metrics("m");
  Usage usage;
  usage.context_tokens = 100;
  usage.context_entries = 600;
  usage.kept_entries = 120;
  usage.kv_bytes_full = 5000;
  usage.kv_bytes_resident = 1000;
  usage.eviction = absl::Milliseconds(250);
  metrics.OnRequestEnd(usage, "uniform+keydiff@0.8", absl::Seconds(5));
  metrics.OnRequestEnd(usage, "uniform+keydiff@0.8", absl::Seconds(5));
  // Clients can make up any number of names; labels are bounded.
  for (int i = 0; i < 1000; ++i) {
    metrics.OnRequestEnd(usage, absl::StrCat("uniform+random@0.5:seed=", i + 1), absl::Seconds(1));
  }
  const std::string page = metrics.Text();
  for (const char* line :
       {"lukv_context_entries_total{engine=\"0\",model_name=\"m\",policy=\"uniform+keydiff@0.8\"} 1200\n",
        "lukv_kept_entries_total{engine=\"0\",model_name=\"m\",policy=\"uniform+keydiff@0.8\"} 240\n",
        "lukv_kv_freed_bytes_total{engine=\"0\",model_name=\"m\",policy=\"uniform+keydiff@0.8\"} 8000\n",
        "lukv_kept_entries_total{engine=\"0\",model_name=\"m\",policy=\"other\"} 112440\n",
        "lukv_request_kv_freed_bytes_count{engine=\"0\",model_name=\"m\"} 1002\n",
        "lukv_request_eviction_seconds_sum{engine=\"0\",model_name=\"m\"} 250.5\n"}) {
    EXPECT_TRUE(page.find(line) != std::string::npos) << line;
  }
}

}  // namespace
}  // namespace lukv
