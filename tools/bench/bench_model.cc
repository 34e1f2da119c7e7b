#include "tools/bench/bench_model.h"

#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "base/status_macros.h"

namespace lukv {
namespace {

int64_t Sum(std::span<const int32_t> values) { return std::accumulate(values.begin(), values.end(), int64_t{0}); }

}  // namespace

absl::StatusOr<std::unique_ptr<BenchModel>> BenchModel::Make(std::unique_ptr<WeightSource> source,
                                                             std::unique_ptr<Backend> backend, const BenchSize& size,
                                                             uint64_t seed) {
  std::unique_ptr<BenchModel> bench(new BenchModel);
  bench->source_ = std::move(source);
  bench->backend_ = std::make_unique<OpTimer>(std::move(backend));
  bench->random_.seed(seed);
  LUKV_ASSIGN_OR_RETURN(bench->model_, Model::Load(*bench->source_, *bench->backend_));
  const ModelConfig& config = bench->config();
  const KvGeometry geometry{
      .n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads, .page_tokens = size.page_tokens};
  LUKV_ASSIGN_OR_RETURN(bench->runner_,
                        ModelRunner::Create(bench->model_, *bench->backend_,
                                            {.kv_dtype = size.kv_dtype,
                                             .page_tokens = size.page_tokens,
                                             .n_pages = static_cast<uint32_t>(size.batch * geometry.heads()) *
                                                        geometry.PagesFor(size.entries),
                                             .n_slots = size.batch,
                                             .max_context = size.entries,
                                             .prefill_chunk = size.prefill_chunk}));
  return bench;
}

absl::StatusOr<absl::Duration> BenchModel::Prefill(Slot slot, int32_t tokens, const EvictionPlan* plan, int32_t room) {
  std::vector<TokenId> ids(static_cast<size_t>(tokens));
  for (TokenId& id : ids) id = RandomId();
  const PrefillPrompt prompt{.context = ids, .targets = {{.slot = slot, .plan = plan}}};
  LUKV_RETURN_IF_ERROR(runner_->OpenSlot(prompt.targets.front(), tokens, 0, room));
  LUKV_ASSIGN_OR_RETURN(PrefillGroup group, runner_->BeginPrefill({&prompt, 1}));
  while (!group.done()) LUKV_RETURN_IF_ERROR(runner_->RunPrefillUnit(group, {}));
  LUKV_RETURN_IF_ERROR(backend_->Synchronize());
  return group.eviction_time();
}

absl::Status BenchModel::Decode(int32_t batch, int32_t position) {
  std::vector<DecodeRow> rows;
  for (int32_t s = 0; s < batch; ++s) {
    LUKV_RETURN_IF_ERROR(runner_->GrowSlot(Slot{s}, 1));
    rows.push_back({.slot = Slot{s}, .token = RandomId(), .position = Position{position}});
  }
  return runner_->Decode(rows);
}

void BenchModel::Release(int32_t batch) {
  for (int32_t s = 0; s < batch; ++s) runner_->table().Release(Slot{s});
}

OpLengths BenchModel::Lengths(int32_t batch, const EvictionPlan* plan) {
  const HeadPageTable& table = runner_->table();
  const int32_t heads = config().n_kv_heads;
  return {.step =
              [&table, batch, heads](int32_t layer) {
                int64_t sum = 0;
                for (int32_t s = 0; s < batch; ++s) {
                  for (int32_t head = 0; head < heads; ++head) sum += Value(table.Length(Slot{s}, layer, head));
                }
                return sum;
              },
          .kept = [&table](int32_t slot, int32_t layer) { return Sum(table.Kept(Slot{slot}, layer)); },
          .selected = plan == nullptr ? 0 : Sum(plan->layer_budgets(0))};
}

}  // namespace lukv
