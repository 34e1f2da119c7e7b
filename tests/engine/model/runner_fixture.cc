#include "tests/engine/model/runner_fixture.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace lukv {
namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (!value.ok()) std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  LUKV_CHECK(value.ok());
  return *std::move(value);
}

}  // namespace

TestRunner::TestRunner(const std::string& model_path, const TestRunnerOptions& options)
    : weights_(ValueOrDie(OpenWeights(model_path))),
      backend_(MakeTestBackend({.threads = options.threads, .compute = options.compute},
                               options.device.empty() ? TestDevice() : options.device, options.cuda_activations)),
      model_(std::make_unique<Model>(ValueOrDie(Model::Load(*weights_, *backend_)))) {
  const ModelConfig& config = model_->config;
  const KvGeometry geometry{
      .n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads, .page_tokens = options.page_tokens};
  runner_ = ValueOrDie(ModelRunner::Create(
      *model_, *backend_,
      {.kv_dtype = options.kv_dtype,
       .page_tokens = options.page_tokens,
       .n_pages = static_cast<uint32_t>(options.n_slots * geometry.heads()) * geometry.PagesFor(options.max_context),
       .n_slots = options.n_slots,
       .max_context = options.max_context,
       .prefill_chunk = options.prefill_chunk}));
}

void TestRunner::Open(const PrefillTarget& target, size_t context, size_t question, size_t room) {
  LUKV_CHECK(
      runner_
          ->OpenSlot(target, static_cast<int32_t>(context), static_cast<int32_t>(question), static_cast<int32_t>(room))
          .ok());
}

std::vector<size_t> TestRunner::KeptPositions(Slot evicted, Slot full, int32_t layer, int32_t head) {
  const size_t dim = static_cast<size_t>(runner_->config().head_dim);
  const ModelRunner::HeadEntries some = ValueOrDie(runner_->ReadEntries(evicted, layer, head));
  const ModelRunner::HeadEntries all = ValueOrDie(runner_->ReadEntries(full, layer, head));
  const size_t kept = static_cast<size_t>(runner_->table().Kept(evicted, layer)[static_cast<size_t>(head)]);
  std::vector<size_t> positions;
  size_t at = 0;
  for (size_t e = 0; e < kept; ++e, ++at) {
    const auto same = [&](size_t p) {
      return std::equal(&some.k[e * dim], &some.k[e * dim] + dim, &all.k[p * dim]) &&
             std::equal(&some.v[e * dim], &some.v[e * dim] + dim, &all.v[p * dim]);
    };
    while (at * dim < all.k.size() && !same(at)) ++at;
    LUKV_CHECK(at * dim < all.k.size());  // The entry is of no position behind the one before it.
    positions.push_back(at);
  }
  return positions;
}

std::vector<float> TestRunner::Prefill(const PrefillPrompt& prompt) {
  std::vector<float> all;
  const absl::Status status = runner_->Prefill(
      {&prompt, 1},
      {.logits = [&](size_t, size_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }});
  LUKV_CHECK(status.ok());
  return all;
}

std::vector<float> TestRunner::PrefillLogits(std::span<const TokenId> ids) {
  Open({.slot = Slot{0}}, ids.size(), 0, 0);
  std::vector<float> all = Prefill({.context = ids, .targets = {{.slot = Slot{0}}}, .logits_from = 0});
  LUKV_CHECK(all.size() == ids.size() * static_cast<size_t>(vocabulary()));
  runner_->table().Release(Slot{0});
  return all;
}

std::vector<float> TestRunner::Step(std::span<const DecodeRow> rows) {
  for (const DecodeRow& row : rows) LUKV_CHECK(runner_->GrowSlot(row.slot, 1).ok());
  const absl::Status decoded = runner_->Decode(rows);
  LUKV_CHECK(decoded.ok());
  const std::span<const float> logits = ValueOrDie(runner_->HostLogits(static_cast<int64_t>(rows.size())));
  return {logits.begin(), logits.end()};
}

std::vector<float> TestRunner::DecodeLogits(std::span<const TokenId> ids, size_t split) {
  Open({.slot = Slot{0}}, split, 0, ids.size() - split);
  std::vector<float> all = Prefill({.context = ids.first(split), .targets = {{.slot = Slot{0}}}});
  for (size_t t = split; t < ids.size(); ++t) {
    const DecodeRow row{.slot = Slot{0}, .token = ids[t], .position = Position{static_cast<int32_t>(t)}};
    const std::vector<float> logits = Step({&row, 1});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  runner_->table().Release(Slot{0});
  return all;
}

std::vector<TokenId> TestRunner::Greedy(std::span<const TokenId> prompt_ids, int32_t tokens) {
  Open({.slot = Slot{0}}, prompt_ids.size(), 0, static_cast<size_t>(tokens));
  std::vector<float> logits = Prefill({.context = prompt_ids, .targets = {{.slot = Slot{0}}}});
  std::vector<TokenId> chosen;
  for (int32_t i = 0; i < tokens; ++i) {
    chosen.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    const DecodeRow row{
        .slot = Slot{0}, .token = chosen.back(), .position = Position{static_cast<int32_t>(prompt_ids.size()) + i}};
    logits = Step({&row, 1});
  }
  runner_->table().Release(Slot{0});
  return chosen;
}

}  // namespace lukv
