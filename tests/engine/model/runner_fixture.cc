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
      backend_(ValueOrDie(MakeCpuBackend({.threads = options.threads, .compute = options.compute}))),
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

void TestRunner::Assign(Slot slot, size_t tokens, int32_t room) {
  HeadPageTable& table = runner_->table();
  const std::vector<int32_t> kept(static_cast<size_t>(table.geometry().heads()), static_cast<int32_t>(tokens));
  table.Assign(slot, kept, room, ValueOrDie(runner_->pool().Take(table.PagesFor(kept, 0), PageOwner::kSequence)));
}

std::vector<float> TestRunner::PrefillLogits(std::span<const TokenId> ids) {
  Assign(Slot{0}, ids.size(), 0);
  const PrefillPrompt prompt{.tokens = ids, .slots = {Slot{0}}, .logits_from = 0};
  std::vector<float> all;
  PrefillGroup group = ValueOrDie(runner_->BeginPrefill({&prompt, 1}));
  while (!group.done()) {
    const absl::Status status = runner_->RunPrefillUnit(group, [&](size_t, size_t token, std::span<const float> row) {
      LUKV_CHECK(all.size() == token * row.size());
      all.insert(all.end(), row.begin(), row.end());
    });
    LUKV_CHECK(status.ok());
  }
  runner_->table().Release(Slot{0});
  return all;
}

std::vector<float> TestRunner::Step(std::span<const DecodeRow> rows) {
  HeadPageTable& table = runner_->table();
  for (const DecodeRow& row : rows) {
    table.Append(row.slot, 1, ValueOrDie(runner_->pool().Take(table.PagesToAppend(row.slot, 1), PageOwner::kSequence)));
  }
  const std::span<const float> logits = ValueOrDie(runner_->Decode(rows));
  return {logits.begin(), logits.end()};
}

std::vector<float> TestRunner::DecodeLogits(std::span<const TokenId> ids, size_t split) {
  Assign(Slot{0}, split, static_cast<int32_t>(ids.size() - split));
  const PrefillPrompt prompt{.tokens = ids.first(split), .slots = {Slot{0}}};
  std::vector<float> all;
  PrefillGroup group = ValueOrDie(runner_->BeginPrefill({&prompt, 1}));
  while (!group.done()) {
    const absl::Status status = runner_->RunPrefillUnit(
        group, [&](size_t, size_t, std::span<const float> row) { all.assign(row.begin(), row.end()); });
    LUKV_CHECK(status.ok());
  }
  for (size_t t = split; t < ids.size(); ++t) {
    const DecodeRow row{.slot = Slot{0}, .token = ids[t], .position = Position{static_cast<int32_t>(t)}};
    const std::vector<float> logits = Step({&row, 1});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  runner_->table().Release(Slot{0});
  return all;
}

std::vector<TokenId> TestRunner::Greedy(std::span<const TokenId> prompt_ids, int32_t tokens) {
  Assign(Slot{0}, prompt_ids.size(), tokens);
  const PrefillPrompt prompt{.tokens = prompt_ids, .slots = {Slot{0}}};
  std::vector<float> logits;
  PrefillGroup group = ValueOrDie(runner_->BeginPrefill({&prompt, 1}));
  while (!group.done()) {
    const absl::Status status = runner_->RunPrefillUnit(
        group, [&](size_t, size_t, std::span<const float> row) { logits.assign(row.begin(), row.end()); });
    LUKV_CHECK(status.ok());
  }
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
