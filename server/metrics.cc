#include "server/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "server/request_table.h"
#include "server/status_page.h"

namespace lukv {
namespace {

using prometheus::ClientMetric;
using prometheus::Labels;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Buckets = prometheus::Histogram::BucketBoundaries;

struct Name {
  const char* name;
  const char* help;
};

// Names that dashboards, autoscalers and endpoint pickers know from vLLM. Labels: model_name, engine.
constexpr Name kRunning = {"vllm:num_requests_running", "Sequences that are admitted and not finished."};
constexpr Name kWaiting = {"vllm:num_requests_waiting", "Requests that are not admitted yet."};
constexpr Name kKvUsage = {"vllm:kv_cache_usage_perc", "Used part of the KV pages, 0 to 1."};
constexpr Name kCacheInfo = {"vllm:cache_config_info",
                             "Always 1. block_size: tokens of one kv head in a page; num_gpu_blocks: pages."};
constexpr Name kPromptTokens = {"vllm:prompt_tokens_total", "Prompt tokens computed."};
constexpr Name kGenerationTokens = {"vllm:generation_tokens_total", "Tokens generated."};
constexpr Name kSuccess = {"vllm:request_success_total",
                           "Ended samples by finished_reason: stop, length, abort, error."};
constexpr Name kTtft = {"vllm:time_to_first_token_seconds", "From a request's arrival to its first token."};
constexpr Name kItl = {"vllm:inter_token_latency_seconds", "Between the tokens of a sample, as they reach its call."};
constexpr Name kE2e = {"vllm:e2e_request_latency_seconds", "From a request's arrival to its end."};
constexpr Name kQueue = {"vllm:request_queue_time_seconds", "From a request's arrival to its admission."};
constexpr Name kPrefill = {"vllm:request_prefill_time_seconds", "From admission to the end of the prompt."};
constexpr Name kDecode = {"vllm:request_decode_time_seconds", "From the first token to the last."};
constexpr Name kRequestPrompt = {"vllm:request_prompt_tokens", "Prompt tokens of a request."};
constexpr Name kRequestGeneration = {"vllm:request_generation_tokens", "Tokens generated for a request."};
constexpr Name kPreemptions = {"vllm:num_preemptions_total",
                               "Times that a running request lost its pages to others, to be computed again."};
constexpr Name kCacheQueries = {"vllm:prefix_cache_queries_total",
                                "Prompt tokens that were looked up in the cache of contexts and conversations."};
constexpr Name kCacheHits = {"vllm:prefix_cache_hits_total", "Those of them that were there."};
// lukv's own.
constexpr Name kKvFull = {"lukv_kv_full_equivalent_bytes",
                          "What the running sequences would hold with every token in every head."};
constexpr Name kKvResident = {"lukv_kv_resident_bytes", "Bytes of the pages that the running sequences hold."};
constexpr Name kPagesUsed = {"lukv_kv_pages_used", "KV pages in use."};
constexpr Name kPagesTotal = {"lukv_kv_pages_total", "KV pages there are."};
constexpr Name kPagesFullEquivalent = {"lukv_kv_pages_full_equivalent",
                                       "KV pages that the running sequences would take with every token in every "
                                       "head, without rounding."};
constexpr Name kPagesContexts = {"lukv_kv_pages_contexts", "KV pages of kept contexts and conversations."};
constexpr Name kPagesReclaimable = {"lukv_kv_pages_reclaimable",
                                    "Those of them that give way to running sequences; not among the pages in use."};
constexpr Name kContexts = {"lukv_contexts", "Contexts and conversations that are kept for later requests."};
constexpr Name kParked = {"lukv_sequences_parked", "Running sequences whose client does not read."};
constexpr Name kWaitingTokens = {"lukv_waiting_prompt_tokens", "Prompt tokens of the requests that wait."};
constexpr Name kAdmittedByEviction = {"lukv_sequences_admitted_by_eviction_total",
                                      "Sequences admitted that a cache of every token would have had no room for."};
constexpr Name kDecodeStall = {"lukv_decode_stall_seconds_total",
                               "Time that sequences which could have decoded waited for units of a prefill."};
constexpr Name kStepFailures = {"lukv_step_failures_total", "Steps that failed and ended the requests in flight."};
constexpr Name kMemory = {"lukv_memory_plan_bytes", "Device memory that was set aside at the start, by what for."};
constexpr Name kSteps = {"lukv_engine_steps_total", "Turns of the engine's loop that computed something."};
constexpr Name kPrefillUnits = {"lukv_prefill_units_total", "Prefill units run: one chunk of tokens in one layer."};
constexpr Name kLayerFull = {"lukv_kv_layer_context_entries",
                             "Context entries that a layer's kv heads would hold for the running sequences, full."};
constexpr Name kLayerKept = {"lukv_kv_layer_kept_entries", "Context entries that a layer's kv heads do hold."};
constexpr Name kContextEntries = {"lukv_context_entries_total",
                                  "Entries of compressed contexts, all layers and kv heads, by policy."};
constexpr Name kKeptEntries = {"lukv_kept_entries_total", "Those of lukv_context_entries_total that were kept."};
constexpr Name kFreedTotal = {"lukv_kv_freed_bytes_total",
                              "KV bytes that ended requests did not hold thanks to eviction."};
constexpr Name kFreed = {"lukv_request_kv_freed_bytes", "KV bytes that eviction saved a request, at its end."};
constexpr Name kEviction = {"lukv_request_eviction_seconds",
                            "Part of a request's prefill spent on statistics, scores and choices."};
constexpr Name kRefused = {"lukv_requests_refused_total", "Requests refused before they ran, by reason."};

// Bucket limits as vLLM has them.
const Buckets kTtftBuckets = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                              1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Buckets kItlBuckets = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
const Buckets kRequestBuckets = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Buckets kTokenBuckets = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                               1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};

const Buckets kEvictionBuckets = {.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5};
const Buckets kByteBuckets = {1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30, 0x1p32, 0x1p34};

// Every policy that a client can write is a name of its own; after so many the rest share one label.
constexpr size_t kMaxPolicies = 64;
constexpr char kOtherPolicies[] = "other";

MetricFamily Family(const Name& name, MetricType type, const Labels& labels, double value) {
  ClientMetric metric;
  for (const auto& [key, text] : labels) metric.label.push_back({key, text});
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return MetricFamily{.name = name.name, .help = name.help, .type = type, .metric = {metric}};
}

// Reads the engine when Prometheus asks.
class EngineCollector : public prometheus::Collectable {
 public:
  explicit EngineCollector(Labels labels) : labels_(std::move(labels)) {}

  void Set(const Engine* engine, int32_t page_tokens) {
    MutexLock lock(&mutex_);
    engine_ = engine;
    page_tokens_ = page_tokens;
  }

  MetricFamily MemoryFamily(const MemoryPlan& plan) const {
    MetricFamily family{.name = kMemory.name, .help = kMemory.help, .type = MetricType::Gauge, .metric = {}};
    for (const auto& [part, bytes] : plan.parts()) {
      Labels labels = labels_;
      labels["part"] = part;
      family.metric.push_back(Family(kMemory, MetricType::Gauge, labels, static_cast<double>(bytes)).metric[0]);
    }
    return family;
  }

  std::vector<MetricFamily> Collect() const override {
    MutexLock lock(&mutex_);
    const EngineStats stats = engine_ != nullptr ? engine_->Stats() : EngineStats{};
    const double total = stats.pages_total;
    Labels cache = labels_;
    cache["block_size"] = absl::StrCat(page_tokens_);
    cache["num_gpu_blocks"] = absl::StrCat(stats.pages_total);
    const auto gauge = [&](const Name& name, double value) { return Family(name, MetricType::Gauge, labels_, value); };
    const auto counter = [&](const Name& name, int64_t value) {
      return Family(name, MetricType::Counter, labels_, static_cast<double>(value));
    };
    std::vector<MetricFamily> families = {
        gauge(kRunning, stats.running),
        gauge(kWaiting, stats.waiting),
        gauge(kKvUsage, total > 0 ? stats.pages_used / total : 0),
        Family(kCacheInfo, MetricType::Gauge, cache, 1),
        counter(kPromptTokens, stats.prompt_tokens),
        counter(kGenerationTokens, stats.generated_tokens),
        gauge(kKvFull, static_cast<double>(stats.kv_bytes_full)),
        gauge(kKvResident, static_cast<double>(stats.kv_bytes_resident)),
        gauge(kPagesUsed, stats.pages_used),
        gauge(kPagesTotal, total),
        gauge(kPagesFullEquivalent,
              stats.page_bytes > 0 ? static_cast<double>(stats.kv_bytes_full) / static_cast<double>(stats.page_bytes)
                                   : 0),
        gauge(kPagesContexts, stats.pages_contexts),
        gauge(kPagesReclaimable, stats.pages_reclaimable),
        gauge(kContexts, stats.contexts),
        gauge(kParked, stats.parked),
        gauge(kWaitingTokens, static_cast<double>(stats.waiting_tokens)),
        counter(kPreemptions, stats.preemptions),
        counter(kCacheQueries, stats.cache_query_tokens),
        counter(kCacheHits, stats.cache_hit_tokens),
        counter(kAdmittedByEviction, stats.admitted_by_eviction),
        Family(kDecodeStall, MetricType::Counter, labels_, absl::ToDoubleSeconds(stats.decode_stall)),
        counter(kStepFailures, stats.step_failures),
        counter(kSteps, stats.steps),
        counter(kPrefillUnits, stats.prefill_units),
    };
    if (engine_ != nullptr) families.push_back(MemoryFamily(engine_->info().memory));
    MetricFamily full = gauge(kLayerFull, 0);
    MetricFamily kept = gauge(kLayerKept, 0);
    full.metric.clear();
    kept.metric.clear();
    for (size_t layer = 0; layer < stats.layers.size(); ++layer) {
      Labels labels = labels_;
      labels["layer"] = absl::StrCat(layer);
      const LayerEntries& entries = stats.layers[layer];
      full.metric.push_back(Family(kLayerFull, MetricType::Gauge, labels, static_cast<double>(entries.full)).metric[0]);
      kept.metric.push_back(Family(kLayerKept, MetricType::Gauge, labels, static_cast<double>(entries.kept)).metric[0]);
    }
    families.push_back(std::move(full));
    families.push_back(std::move(kept));
    return families;
  }

  std::string Requests() const {
    MutexLock lock(&mutex_);
    return RequestTable(engine_ != nullptr ? engine_->Requests() : std::vector<RequestRow>(), absl::Now());
  }

 private:
  const Labels labels_;
  mutable Mutex mutex_;
  const Engine* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int32_t page_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

struct Metrics::Impl {
  explicit Impl(std::string model_name)
      : labels{{"engine", "0"}, {"model_name", std::move(model_name)}},
        registry(std::make_shared<prometheus::Registry>()),
        engine(std::make_shared<EngineCollector>(labels)),
        ttft(Histogram(kTtft, kTtftBuckets)),
        itl(Histogram(kItl, kItlBuckets)),
        e2e(Histogram(kE2e, kRequestBuckets)),
        queue(Histogram(kQueue, kRequestBuckets)),
        prefill(Histogram(kPrefill, kRequestBuckets)),
        decode(Histogram(kDecode, kRequestBuckets)),
        prompt(Histogram(kRequestPrompt, kTokenBuckets)),
        generation(Histogram(kRequestGeneration, kTokenBuckets)),
        freed(Histogram(kFreed, kByteBuckets)),
        eviction(Histogram(kEviction, kEvictionBuckets)),
        freed_total(Counters(kFreedTotal)),
        context_entries(Counters(kContextEntries)),
        kept_entries(Counters(kKeptEntries)),
        success(Counters(kSuccess)),
        refused(Counters(kRefused)) {
    // All there from the start, so that a rate has a first value.
    for (const char* reason : {"stop", "length", "abort", "error"}) success.Add({{"finished_reason", reason}});
  }

  prometheus::Histogram& Histogram(const Name& name, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name.name).Help(name.help).Labels(labels).Register(*registry).Add({},
                                                                                                               buckets);
  }

  prometheus::Family<prometheus::Counter>& Counters(const Name& name) {
    return prometheus::BuildCounter().Name(name.name).Help(name.help).Labels(labels).Register(*registry);
  }

  std::string PolicyLabel(const std::string& policy) {
    MutexLock lock(&policies_mutex);
    if (policies.contains(policy)) return policy;
    if (policies.size() >= kMaxPolicies) return kOtherPolicies;
    policies.insert(policy);
    return policy;
  }

  const Labels labels;
  const std::shared_ptr<prometheus::Registry> registry;
  const std::shared_ptr<EngineCollector> engine;
  prometheus::Histogram& ttft;
  prometheus::Histogram& itl;
  prometheus::Histogram& e2e;
  prometheus::Histogram& queue;
  prometheus::Histogram& prefill;
  prometheus::Histogram& decode;
  prometheus::Histogram& prompt;
  prometheus::Histogram& generation;
  prometheus::Histogram& freed;
  prometheus::Histogram& eviction;
  prometheus::Family<prometheus::Counter>& freed_total;
  prometheus::Family<prometheus::Counter>& context_entries;
  prometheus::Family<prometheus::Counter>& kept_entries;
  Mutex policies_mutex;
  std::set<std::string> policies ABSL_GUARDED_BY(policies_mutex);  // Those that have a label of their own.
  prometheus::Family<prometheus::Counter>& success;
  prometheus::Family<prometheus::Counter>& refused;
  std::unique_ptr<StatusPage> page;
};

Metrics::Metrics(std::string model_name) : impl_(std::make_unique<Impl>(std::move(model_name))) {}
Metrics::~Metrics() = default;

absl::StatusOr<std::string> Metrics::Listen(const std::string& address) {
  LUKV_ASSIGN_OR_RETURN(
      impl_->page,
      StatusPage::Listen(
          address, {{"/metrics", {"text/plain; version=0.0.4; charset=utf-8", [this] { return Text(); }}},
                    {"/debug/requests", {"text/plain; charset=utf-8", [this] { return impl_->engine->Requests(); }}}}));
  return impl_->page->address();
}

void Metrics::SetEngine(const Engine* engine, int32_t page_tokens) { impl_->engine->Set(engine, page_tokens); }

void Metrics::OnFirstToken(absl::Duration since_arrival) { impl_->ttft.Observe(absl::ToDoubleSeconds(since_arrival)); }

void Metrics::OnTokens(absl::Duration since_last, int32_t tokens) {
  const double each = absl::ToDoubleSeconds(since_last) / tokens;
  for (int32_t i = 0; i < tokens; ++i) impl_->itl.Observe(each);
}

void Metrics::OnSampleEnd(Outcome outcome, int32_t samples) {
  static constexpr const char* kReasons[] = {"stop", "length", "abort", "error"};
  impl_->success.Add({{"finished_reason", kReasons[static_cast<int>(outcome)]}}).Increment(samples);
}

void Metrics::OnRequestEnd(const Usage& usage, const std::string& policy, absl::Duration since_arrival) {
  impl_->e2e.Observe(absl::ToDoubleSeconds(since_arrival));
  impl_->queue.Observe(absl::ToDoubleSeconds(usage.queue));
  impl_->prefill.Observe(absl::ToDoubleSeconds(usage.prefill));
  impl_->decode.Observe(absl::ToDoubleSeconds(usage.decode));
  impl_->prompt.Observe(usage.prompt_tokens);
  impl_->generation.Observe(usage.generated_tokens);
  if (usage.context_tokens == 0) return;
  const Labels labels = {{"policy", impl_->PolicyLabel(policy)}};
  const double freed = static_cast<double>(usage.kv_bytes_freed());
  impl_->freed.Observe(freed);
  impl_->eviction.Observe(absl::ToDoubleSeconds(usage.eviction));
  impl_->freed_total.Add(labels).Increment(freed);
  impl_->context_entries.Add(labels).Increment(static_cast<double>(usage.context_entries));
  impl_->kept_entries.Add(labels).Increment(static_cast<double>(usage.kept_entries));
}

void Metrics::OnRefused(std::string_view reason) { impl_->refused.Add({{"reason", std::string(reason)}}).Increment(); }

std::string Metrics::Text() const {
  std::vector<MetricFamily> families = impl_->registry->Collect();
  for (MetricFamily& family : impl_->engine->Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace lukv
