// lukv-bench: how fast a model runs in this process, without a server: prefill of random ids, then decode steps.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/installation.h"
#include "base/settings.h"
#include "base/status_macros.h"
#include "engine/evict/budget_curve.h"
#include "engine/evict/eviction_plan.h"
#include "engine/model/fingerprint.h"
#include "engine/model/model.h"
#include "engine/model/runner.h"
#include "engine/model/weight_source.h"
#include "kernels/device.h"

namespace lukv {
namespace {

struct BenchOptions {
  std::string model;
  std::string device = "auto";
  int threads = 0;
  int32_t prompt = 512;
  int32_t gen = 64;
  int32_t batch = 1;
  int32_t repeat = 3;
  int32_t prefill_chunk = 512;
  int32_t page_tokens = 64;
  std::string kv_dtype = "bf16";
  std::string compute = "int8";
  std::string policy = "full";
  std::string curves;
  uint64_t seed = 1;
  bool json = false;
};

struct BenchResult {
  std::string device;
  double load_s = 0;
  std::vector<double> prefill_tokens_per_s;  // One value per repeat.
  std::vector<double> decode_tokens_per_s;   // Of all sequences together.
  std::vector<double> eviction_share;        // Of the prefill's time.
  int64_t kv_bytes_full = 0;                 // At the end of the run, all sequences.
  int64_t kv_bytes_resident = 0;
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One run: the batch's prompts one after the other (each alone, as a long prompt is served), then `gen` steps of all.
// The whole prompt is the context: it is what `plan` compresses.
absl::Status RunOnce(ModelRunner& runner, const BenchOptions& options, const EvictionPlan* plan,
                     std::mt19937_64& random, BenchResult& result) {
  HeadPageTable& table = runner.table();
  const ModelConfig& config = runner.config();
  const auto random_id = [&] { return static_cast<TokenId>(random() % static_cast<uint64_t>(config.vocabulary)); };
  double prefill_s = 0;
  absl::Duration eviction;
  for (int32_t s = 0; s < options.batch; ++s) {
    std::vector<TokenId> tokens(static_cast<size_t>(options.prompt));
    for (TokenId& id : tokens) id = random_id();
    const PrefillPrompt prompt{.context = tokens, .targets = {{.slot = Slot{s}, .plan = plan}}};
    LUKV_RETURN_IF_ERROR(runner.OpenSlot(prompt.targets.front(), options.prompt, 0, options.gen));
    const auto start = std::chrono::steady_clock::now();
    LUKV_ASSIGN_OR_RETURN(PrefillGroup group, runner.BeginPrefill({&prompt, 1}));
    while (!group.done()) LUKV_RETURN_IF_ERROR(runner.RunPrefillUnit(group, {}));
    prefill_s += SecondsSince(start);
    eviction += group.eviction_time();
  }
  result.prefill_tokens_per_s.push_back(options.batch * options.prompt / prefill_s);
  result.eviction_share.push_back(absl::ToDoubleSeconds(eviction) / prefill_s);

  const auto start = std::chrono::steady_clock::now();
  std::vector<DecodeRow> rows(static_cast<size_t>(options.batch));
  for (int32_t step = 0; step < options.gen; ++step) {
    for (int32_t s = 0; s < options.batch; ++s) {
      LUKV_RETURN_IF_ERROR(runner.GrowSlot(Slot{s}, 1));
      rows[static_cast<size_t>(s)] = {
          .slot = Slot{s}, .token = random_id(), .position = Position{options.prompt + step}};
    }
    LUKV_RETURN_IF_ERROR(runner.Decode(rows));
  }
  if (options.gen > 0) result.decode_tokens_per_s.push_back(options.batch * options.gen / SecondsSince(start));

  const int64_t page_bytes = ModelRunner::PageBytes(config, runner.options().kv_dtype, runner.options().page_tokens);
  result.kv_bytes_full =
      ModelRunner::KvBytesPerToken(config, runner.options().kv_dtype) * options.batch * (options.prompt + options.gen);
  result.kv_bytes_resident = page_bytes * runner.pool().used();
  for (int32_t s = 0; s < options.batch; ++s) table.Release(Slot{s});
  return absl::OkStatus();
}

// Null: nothing is evicted.
absl::StatusOr<std::unique_ptr<EvictionPlan>> MakePlan(const BenchOptions& options, const WeightSource& source,
                                                       const ModelRunner& runner, const KvGeometry& geometry) {
  LUKV_ASSIGN_OR_RETURN(const Policy policy, ParsePolicy(options.policy));
  if (policy.full) return nullptr;
  const BudgetCurve* curve = nullptr;
  CurveSet curves;
  if (policy.allocator == Allocator::kLuKv) {
    LUKV_ASSIGN_OR_RETURN(const std::string fingerprint, ModelFingerprint(source));
    LUKV_ASSIGN_OR_RETURN(curves,
                          CurveSet::Load(options.curves, ShareFolder("profiles"), source.config(), fingerprint));
    curve = curves.Get(policy.scorer, policy.sink, policy.window);
    if (curve == nullptr) {
      return absl::InvalidArgumentError("there is no budget curve of this model (" + fingerprint + ") for " +
                                        ScorerLabel(policy.scorer, policy.sink, policy.window));
    }
  }
  const int64_t entry_bytes = ModelRunner::PageBytes(source.config(), runner.options().kv_dtype, 1);
  LUKV_ASSIGN_OR_RETURN(EvictionPlan plan, EvictionPlan::Make(policy, options.prompt, geometry, entry_bytes, curve));
  return std::make_unique<EvictionPlan>(std::move(plan));
}

absl::StatusOr<BenchResult> RunBench(const BenchOptions& options) {
  BenchResult result;
  const auto start = std::chrono::steady_clock::now();
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, OpenWeights(options.model));
  const ModelConfig& config = source->config();
  if (options.prompt + options.gen > config.context_length) {
    return absl::InvalidArgumentError("prompt + gen = " + std::to_string(options.prompt + options.gen) +
                                      " tokens, the model's context is " + std::to_string(config.context_length));
  }
  LUKV_ASSIGN_OR_RETURN(
      const std::unique_ptr<Backend> backend,
      MakeBackend({.device = options.device,
                   .cpu = {.threads = options.threads,
                           .compute = options.compute == "f32" ? CpuCompute::kF32 : CpuCompute::kInt8}}));
  result.device = backend->name();
  LUKV_ASSIGN_OR_RETURN(const Model model, Model::Load(*source, *backend));
  const KvGeometry geometry{
      .n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads, .page_tokens = options.page_tokens};
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner,
                        ModelRunner::Create(model, *backend,
                                            {.kv_dtype = options.kv_dtype == "f32" ? DType::kF32 : DType::kBF16,
                                             .page_tokens = options.page_tokens,
                                             .n_pages = static_cast<uint32_t>(options.batch * geometry.heads()) *
                                                        geometry.PagesFor(options.prompt + options.gen),
                                             .n_slots = options.batch,
                                             .max_context = options.prompt + options.gen,
                                             .prefill_chunk = options.prefill_chunk}));
  result.load_s = SecondsSince(start);
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<EvictionPlan> plan, MakePlan(options, *source, *runner, geometry));

  std::mt19937_64 random(options.seed);
  // One run that does not count: touches the pages and brings the caches and clocks to where they stay.
  BenchResult warm_up;
  LUKV_RETURN_IF_ERROR(RunOnce(*runner, options, plan.get(), random, warm_up));
  for (int32_t r = 0; r < options.repeat; ++r)
    LUKV_RETURN_IF_ERROR(RunOnce(*runner, options, plan.get(), random, result));
  return result;
}

struct Summary {
  double median = 0, min = 0, max = 0;
};

Summary Summarise(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return {.median = (values[(n - 1) / 2] + values[n / 2]) / 2, .min = values.front(), .max = values.back()};
}

void Print(const BenchOptions& options, const BenchResult& result) {
  const Summary prefill = Summarise(result.prefill_tokens_per_s);
  const Summary decode = Summarise(result.decode_tokens_per_s);
  if (options.json) {
    const auto json = [](const Summary& s) {
      return nlohmann::ordered_json{{"median", s.median}, {"min", s.min}, {"max", s.max}};
    };
    const nlohmann::ordered_json out{{"prompt", options.prompt},
                                     {"gen", options.gen},
                                     {"batch", options.batch},
                                     {"device", result.device},
                                     {"load_s", result.load_s},
                                     {"prefill_tokens_per_s", json(prefill)},
                                     {"decode_tokens_per_s", json(decode)},
                                     {"policy", options.policy},
                                     {"eviction_share", json(Summarise(result.eviction_share))},
                                     {"kv_bytes_full", result.kv_bytes_full},
                                     {"kv_bytes_resident", result.kv_bytes_resident}};
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("device   %s\nload     %.2f s\n", result.device.c_str(), result.load_s);
  std::printf("prefill  %d tokens: %.1f tokens/s (min %.1f, max %.1f)\n", options.prompt, prefill.median, prefill.min,
              prefill.max);
  if (options.gen > 0) {
    std::printf("decode   %d steps of %d: %.1f tokens/s (min %.1f, max %.1f)\n", options.gen, options.batch,
                decode.median, decode.min, decode.max);
  }
  if (options.policy != "full") {
    std::printf("evict    %s: %.2f %% of the prefill\n", options.policy.c_str(),
                100 * Summarise(result.eviction_share).median);
  }
  std::printf("KV       %.2f MiB resident, %.2f MiB for a full cache\n",
              static_cast<double>(result.kv_bytes_resident) / (1 << 20),
              static_cast<double>(result.kv_bytes_full) / (1 << 20));
}

int Main(int argc, char** argv) {
  BenchOptions options;
  CLI::App app(
      "Speed of a model in this process: prefill of random ids, then decode steps after them.\n"
      "Prints the median of the repeats; one run before them does not count.",
      "lukv-bench");
  app.add_option("--model", options.model, "GGUF file or Hugging Face folder")->required();
  app.add_option("--device", options.device, "cpu, cuda, cuda:N, or auto: the first CUDA device there is")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Compute threads; 0: one per core")->check(CLI::Range(0, 1024));
  app.add_option("--prompt", options.prompt, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--gen", options.gen, "Decode steps")->check(CLI::Range(0, 1 << 20))->capture_default_str();
  app.add_option("--batch", options.batch, "Sequences that decode together")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--repeat", options.repeat, "Measured runs")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--prefill-chunk", options.prefill_chunk, "Tokens of a prefill unit")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--page-tokens", options.page_tokens, "Entries per KV page")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--kv-dtype", options.kv_dtype, "bf16 or f32")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str();
  app.add_option("--compute", options.compute, "Arithmetic of quantised linear layers: int8 or f32")
      ->check(CLI::IsMember({"int8", "f32"}))
      ->capture_default_str();
  app.add_option("--policy", options.policy,
                 "How the prompt is compressed: full, or ALLOCATOR+SCORER@RATIO like lukv+expected_attention@0.8")
      ->capture_default_str();
  app.add_option("--curves", options.curves,
                 "Folder with the model's budget curves [one of this model under ../share/lukv/profiles]");
  app.add_option("--seed", options.seed, "Of the random ids")->capture_default_str();
  app.add_flag("--json", options.json, "One JSON object instead of text");
  if (const std::optional<ExitRequest> exit = ParseSettings(app, argc, argv)) return Exit(*exit);
  if (const absl::StatusOr<Policy> policy = ParsePolicy(options.policy); !policy.ok()) {
    return Exit(WrongSetting(app, std::string(policy.status().message())));
  }
  const absl::StatusOr<BenchResult> result = RunBench(options);
  if (!result.ok()) {
    std::fprintf(stderr, "lukv-bench: %s\n", std::string(result.status().message()).c_str());
    return 1;
  }
  Print(options, *result);
  return 0;
}

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) { return lukv::Main(argc, argv); }
