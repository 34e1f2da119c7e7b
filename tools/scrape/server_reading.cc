#include "tools/scrape/server_reading.h"

namespace lukv {

ServerReading ReadServer(const MetricsPage& page, absl::Time at) {
  return {
      .at = at,
      .running = page.Sum("vllm:num_requests_running"),
      .waiting = page.Sum("vllm:num_requests_waiting"),
      .parked = page.Sum("lukv_sequences_parked"),
      .pages_used = page.Sum("lukv_kv_pages_used"),
      .pages_total = page.Sum("lukv_kv_pages_total"),
      .contexts = page.Sum("lukv_contexts"),
      .pages_contexts = page.Sum("lukv_kv_pages_contexts"),
      .pages_reclaimable = page.Sum("lukv_kv_pages_reclaimable"),
      .kv_bytes_full = page.Sum("lukv_kv_full_equivalent_bytes"),
      .kv_bytes_resident = page.Sum("lukv_kv_resident_bytes"),
      .prompt_tokens = page.Sum("vllm:prompt_tokens_total"),
      .generated_tokens = page.Sum("vllm:generation_tokens_total"),
      .preemptions = page.Sum("vllm:num_preemptions_total"),
      .cache_query_tokens = page.Sum("vllm:prefix_cache_queries_total"),
      .cache_hit_tokens = page.Sum("vllm:prefix_cache_hits_total"),
      .admitted_by_eviction = page.Sum("lukv_sequences_admitted_by_eviction_total"),
      .kv_bytes_freed = page.Sum("lukv_kv_freed_bytes_total"),
      .ended = page.By("vllm:request_success_total", "finished_reason"),
      .refused = page.By("lukv_requests_refused_total", "reason"),
      .ttft = page.Histogram("vllm:time_to_first_token_seconds"),
      .itl = page.Histogram("vllm:inter_token_latency_seconds"),
  };
}

std::optional<double> Increase(const std::optional<double>& before, const std::optional<double>& after) {
  if (!before.has_value() || !after.has_value()) return std::nullopt;
  return *after - *before;
}

std::map<std::string, double> Increase(const std::map<std::string, double>& before,
                                       const std::map<std::string, double>& after) {
  std::map<std::string, double> increase;
  for (const auto& [key, value] : after) {
    const auto found = before.find(key);
    const double moved = value - (found == before.end() ? 0 : found->second);
    if (moved != 0) increase[key] = moved;
  }
  return increase;
}

}  // namespace lukv
