#include "tools/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "engine/model/weight_source.h"
#include "kernels/device.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/cpu_peaks.h"
#include "tools/bench/dummy_weights.h"
#include "tools/bench/op_run.h"
#include "tools/bench/peaks.h"
#include "tools/bench/presets.h"
#include "tools/bench/report.h"
#include "tools/bench/roofline.h"
#include "tools/bench/speed.h"

namespace lukv {
namespace {

// Decode steps that are timed op by op.
constexpr int32_t kOpSteps = 8;

absl::StatusOr<std::unique_ptr<WeightSource>> Weights(const BenchOptions& options) {
  if (options.dummy_weights.empty()) return OpenWeights(options.model);
  LUKV_ASSIGN_OR_RETURN(const ModelConfig config, PresetConfig(options.dummy_weights));
  return DummyWeights(config, DummyValues::kRandom);
}

absl::StatusOr<std::unique_ptr<BenchModel>> Load(const BenchOptions& options, int32_t entries) {
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<WeightSource> source, Weights(options));
  if (entries > source->config().context_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("the run needs ", entries, " tokens, the model's context is ", source->config().context_length));
  }
  LUKV_ASSIGN_OR_RETURN(
      std::unique_ptr<Backend> backend,
      MakeBackend({.device = options.device,
                   .cpu = {.threads = options.threads,
                           .compute = options.compute == "f32" ? CpuCompute::kF32 : CpuCompute::kInt8}}));
  return BenchModel::Make(std::move(source), std::move(backend),
                          {.batch = options.batch,
                           .entries = entries,
                           .prefill_chunk = options.prefill_chunk,
                           .page_tokens = options.page_tokens,
                           .kv_dtype = options.kv_dtype == "f32" ? DType::kF32 : DType::kBF16},
                          options.seed);
}

absl::StatusOr<std::string> Measure(const BenchOptions& options) {
  const int32_t op_steps = options.ops ? std::min(options.gen, kOpSteps) : 0;
  BenchResult result;
  const auto start = std::chrono::steady_clock::now();
  // Steps timed op by op come after one that is not.
  const int32_t entries = options.prompt + std::max(options.gen, op_steps == 0 ? 0 : op_steps + 1);
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<BenchModel> model, Load(options, entries));
  result.load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.device = model->backend().name();
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<EvictionPlan> plan, MakePlan(options, *model));
  LUKV_ASSIGN_OR_RETURN(result.speed, MeasureSpeed(options, plan.get(), *model));
  if (options.ops) {
    LUKV_ASSIGN_OR_RETURN(result.ops, MeasureOps(*model, options.batch, options.prompt, op_steps));
    LUKV_ASSIGN_OR_RETURN(result.peaks, MeasurePeaks(model->backend()));
    // A CUDA device's name is the card's.
    if (absl::StartsWith(result.device, "cpu")) {
      MeasureCpuPeaks(options.threads != 0 ? options.threads : UsableCores(), *result.peaks);
      if (options.compute != "int8") result.peaks->int8_ops_per_s = 0;
    }
  }
  if (!options.trace.empty()) LUKV_RETURN_IF_ERROR(WriteWholeFile(options.trace, TraceJson(result.ops)));
  return Report(options, result);
}

}  // namespace

absl::StatusOr<std::string> RunBench(const BenchOptions& options) {
  if (options.roofline.empty()) return Measure(options);
  LUKV_ASSIGN_OR_RETURN(const ModelConfig config, PresetConfig(options.roofline));
  LUKV_ASSIGN_OR_RETURN(
      const std::vector<RooflineCase> cases,
      Roofline(config, {1, 16, 64}, {1 << 15, 1 << 17}, options.prefill_chunk,
               {.bytes_per_s = 1e12 * options.peak_bandwidth, .flops_per_s = 1e12 * options.peak_flops}));
  return Report(options, cases);
}

}  // namespace lukv
