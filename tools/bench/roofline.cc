#include "tools/bench/roofline.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/dry_backend.h"
#include "tools/bench/dummy_weights.h"
#include "tools/bench/presets.h"

namespace lukv {
namespace {

// Costs do not depend on pages; few large ones keep the host's tables small.
constexpr int32_t kPageTokens = 4096;

absl::StatusOr<std::unique_ptr<BenchModel>> MakeDry(const ModelConfig& config, const BenchSize& size) {
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<WeightSource> weights, DummyWeights(config, DummyValues::kZero));
  return BenchModel::Make(std::move(weights), MakeDryBackend(), size, 1);
}

double Floor(const PhaseOps& phase, const Peaks& peaks) {
  double sum = 0;
  for (const OpSum& op : phase.ops) sum += FloorSeconds(op.cost, peaks);
  return sum;
}

// A step in which each head holds `entries`, the step's own among them.
absl::StatusOr<PhaseOps> DecodeStep(BenchModel& model, int32_t batch, int32_t entries) {
  constexpr int32_t kSteps = 2;  // One that does not count.
  for (int32_t s = 0; s < batch; ++s) {
    LUKV_RETURN_IF_ERROR(model.runner().OpenSlot({.slot = Slot{s}}, 0, entries - kSteps, kSteps));
  }
  LUKV_ASSIGN_OR_RETURN(PhaseOps ops, DecodeOps(model, batch, 1, entries - kSteps));
  model.Release(batch);
  return ops;
}

}  // namespace

absl::StatusOr<std::vector<RooflineCase>> Roofline(const ModelConfig& config, const std::vector<int32_t>& batches,
                                                   const std::vector<int32_t>& contexts, int32_t prefill_chunk,
                                                   const Peaks& peaks) {
  BenchSize size{.batch = *std::max_element(batches.begin(), batches.end()),
                 .entries = *std::max_element(contexts.begin(), contexts.end()),
                 .prefill_chunk = prefill_chunk,
                 .page_tokens = kPageTokens};
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<BenchModel> model, MakeDry(config, size));
  const int64_t token_bytes = ModelRunner::KvBytesPerToken(config, size.kv_dtype);
  const int64_t weights = 2 * ParameterCount(config);
  std::vector<RooflineCase> cases;
  for (const int32_t context : contexts) {
    for (const double kept : {1.0, 1 - kBenchRatio}) {
      for (const int32_t batch : batches) {
        const int32_t entries = static_cast<int32_t>(context * kept);
        LUKV_ASSIGN_OR_RETURN(PhaseOps ops, DecodeStep(*model, batch, entries));
        cases.push_back({.batch = batch,
                         .context = context,
                         .kept = kept,
                         .resident = weights + token_bytes * entries * batch,
                         .ops = std::move(ops)});
      }
    }
  }
  for (const int32_t context : contexts) {
    const int64_t resident = weights + token_bytes * context;
    LUKV_ASSIGN_OR_RETURN(PhaseOps prefill, PrefillOps(*model, context, 0));
    model->Release(1);
    cases.push_back({.context = context, .resident = resident, .ops = std::move(prefill)});
    LUKV_ASSIGN_OR_RETURN(std::vector<PhaseOps> evictions, EvictionOps(*model, context));
    for (PhaseOps& eviction : evictions) {
      cases.push_back({.context = context, .kept = 1 - kBenchRatio, .resident = resident, .ops = std::move(eviction)});
    }
  }
  for (RooflineCase& c : cases) c.floor_s = Floor(c.ops, peaks);
  return cases;
}

}  // namespace lukv
