// The layer-major prefill: chunks of contexts over staging, compaction at a layer's end, chunks of questions over
// pages.
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "engine/model/runner.h"

namespace lukv {
namespace {

void AddOnce(const ScorerSettings& scorer, std::vector<ScorerSettings>& scorers) {
  if (std::find(scorers.begin(), scorers.end(), scorer) == scorers.end()) scorers.push_back(scorer);
}

bool Evicts(const PrefillTarget& target) { return target.plan != nullptr && !target.plan->keeps_all(); }

// All scorers that somebody wants to be run on the prompt's context.
std::vector<ScorerSettings> Scorers(const PrefillPrompt& prompt) {
  std::vector<ScorerSettings> scorers;
  for (const PrefillTarget& target : prompt.targets) {
    if (Evicts(target)) AddOnce(target.plan->policy().scorer, scorers);
  }
  for (const ScorerSettings& scorer : prompt.observed_scorers) AddOnce(scorer, scorers);
  return scorers;
}

// Entries that a head has on average before the question's first one.
int32_t KeptByHead(const PrefillPrompt& prompt) {
  if (prompt.context.empty()) return Value(prompt.first_position);
  const EvictionPlan* plan = prompt.targets.front().plan;
  if (plan == nullptr) return static_cast<int32_t>(prompt.context.size());
  const std::span<const int32_t> budgets = plan->budgets();
  return static_cast<int32_t>(std::accumulate(budgets.begin(), budgets.end(), int64_t{0}) /
                              static_cast<int64_t>(budgets.size()));
}

// Adds the time that passes in its scope.
class Stopwatch {
 public:
  explicit Stopwatch(absl::Duration& total) : total_(total) {}
  ~Stopwatch() { total_ += absl::Now() - start_; }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  absl::Duration& total_;
  const absl::Time start_ = absl::Now();
};

}  // namespace

void PrefillGroup::Drop(size_t prompt) {
  if (prompts_[prompt].dropped()) return;
  prompts_[prompt].targets.clear();
  prompts_[prompt].logits_from = prompts_[prompt].context + prompts_[prompt].question;
  --live_prompts_;
}

PrefillUnit PrefillGroup::next_unit() const {
  LUKV_CHECK(!done());
  if (chunk_begin_ < context_tokens_) {
    return {.kind = PrefillUnit::Kind::kContext, .rows = context_tokens_ - chunk_begin_};
  }
  if (context_tokens_ > 0 && !compacted_) return {.kind = PrefillUnit::Kind::kCompact, .rows = context_tokens_};
  return {.kind = PrefillUnit::Kind::kQuestion, .rows = tokens() - chunk_begin_};
}

int64_t PrefillGroup::EntriesSeen(int32_t rows) const {
  int64_t seen = 0;
  const int32_t end = chunk_begin_ + rows;
  const auto add = [&](int32_t begin_row, int32_t length, int64_t before) {
    const int64_t first = std::max(chunk_begin_, begin_row) - begin_row;
    const int64_t last = std::min(end, begin_row + length) - begin_row;
    if (first < last) seen += (last - first) * (before + (first + last + 1) / 2);
  };
  for (const Prompt& prompt : prompts_) {
    if (prompt.dropped()) continue;
    add(prompt.context_row, prompt.context, 0);
    add(prompt.question_row, prompt.question, prompt.kept);
  }
  return seen;
}

absl::StatusOr<PrefillGroup> ModelRunner::BeginPrefill(std::span<const PrefillPrompt> prompts) {
  return Begin(prompts, RowClass::kPrefill);
}

absl::StatusOr<PrefillGroup> ModelRunner::BeginReplay(std::span<const PrefillPrompt> prompts) {
  LUKV_ASSIGN_OR_RETURN(PrefillGroup group, Begin(prompts, RowClass::kDecode));
  for (PrefillGroup::Prompt& prompt : group.prompts_) {
    LUKV_CHECK(prompt.context == 0);
    prompt.logits_from = prompt.question;
  }
  return group;
}

absl::StatusOr<PrefillGroup> ModelRunner::Begin(std::span<const PrefillPrompt> prompts, RowClass rows) {
  const ModelConfig& c = config();
  PrefillGroup group;
  group.rows_ = rows;
  group.n_layers_ = c.n_layers;
  group.live_prompts_ = prompts.size();
  std::vector<TokenId> ids;
  const auto add = [&](std::span<const TokenId> tokens, Position first) {
    ids.insert(ids.end(), tokens.begin(), tokens.end());
    for (int32_t i = 0; i < static_cast<int32_t>(tokens.size()); ++i) {
      group.positions_.push_back(Position{Value(first) + i});
    }
  };
  for (const PrefillPrompt& prompt : prompts) {
    const size_t tokens = prompt.context.size() + prompt.question.size();
    LUKV_CHECK(tokens > 0 && !prompt.targets.empty());
    PrefillGroup::Prompt entry{.targets = prompt.targets,
                               .context_row = static_cast<int32_t>(ids.size()),
                               .context = static_cast<int32_t>(prompt.context.size()),
                               .question = static_cast<int32_t>(prompt.question.size()),
                               .kept = KeptByHead(prompt),
                               .logits_from = static_cast<int32_t>(std::min(prompt.logits_from, tokens - 1)),
                               .observed = prompt.observed_scorers};
    for (const PrefillTarget& target : prompt.targets) {
      LUKV_CHECK(entry.question == 0 || target.plan == prompt.targets.front().plan);
      LUKV_CHECK(target.plan == nullptr || target.plan->n_tokens() == entry.context);
    }
    if (std::vector<ScorerSettings> scorers = Scorers(prompt); !scorers.empty() && entry.context > 0) {
      LUKV_ASSIGN_OR_RETURN(entry.evictor, LayerEvictor::Make(backend_, Scoring(), entry.context, prompt.first_position,
                                                              std::move(scorers)));
    }
    add(prompt.context, prompt.first_position);
    group.prompts_.push_back(std::move(entry));
  }
  group.context_tokens_ = static_cast<int32_t>(ids.size());
  for (size_t p = 0; p < prompts.size(); ++p) {
    group.prompts_[p].question_row = static_cast<int32_t>(ids.size());
    add(prompts[p].question, Position{Value(prompts[p].first_position) + group.prompts_[p].context});
  }
  group.question_tokens_ = static_cast<int32_t>(ids.size()) - group.context_tokens_;

  const int64_t tokens = group.tokens();
  const int64_t staging_bytes =
      int64_t{group.context_tokens_} * c.n_kv_heads * c.head_dim * Traits(options_.kv_dtype).block_bytes;
  LUKV_ASSIGN_OR_RETURN(
      group.hidden_,
      backend_.Allocate(static_cast<size_t>(tokens * c.hidden * Traits(backend_.activation_dtype()).block_bytes)));
  LUKV_ASSIGN_OR_RETURN(group.staging_k_, backend_.Allocate(static_cast<size_t>(staging_bytes)));
  LUKV_ASSIGN_OR_RETURN(group.staging_v_, backend_.Allocate(static_cast<size_t>(staging_bytes)));
  LUKV_ASSIGN_OR_RETURN(group.device_positions_, backend_.Allocate(static_cast<size_t>(tokens) * sizeof(Position)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(group.device_positions_.data(), group.positions_.data(),
                                             static_cast<size_t>(tokens) * sizeof(Position)));
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer device_ids,
                        backend_.Allocate(static_cast<size_t>(tokens) * sizeof(TokenId)));
  LUKV_RETURN_IF_ERROR(
      backend_.CopyToDevice(device_ids.data(), ids.data(), static_cast<size_t>(tokens) * sizeof(TokenId)));
  LUKV_RETURN_IF_ERROR(backend_.Embed(
      {.table = model_.embedding.get(), .ids = device_ids.as<int32_t>(), .out = Hidden(group, 0, group.tokens())}));
  LUKV_RETURN_IF_ERROR(backend_.Synchronize());  // device_ids goes now.
  return group;
}

absl::Status ModelRunner::Prefill(std::span<const PrefillPrompt> prompts, const PrefillSinks& sinks) {
  LUKV_ASSIGN_OR_RETURN(PrefillGroup group, BeginPrefill(prompts));
  while (!group.done()) LUKV_RETURN_IF_ERROR(RunPrefillUnit(group, sinks));
  return absl::OkStatus();
}

absl::Status ModelRunner::RunPrefillUnit(PrefillGroup& group, const PrefillSinks& sinks, int32_t max_rows) {
  const PrefillUnit unit = group.next_unit();
  LUKV_CHECK(max_rows >= 1);
  const int32_t begin = group.chunk_begin_;
  const int32_t end = begin + std::min({unit.rows, options_.prefill_chunk, max_rows});
  switch (unit.kind) {
    case PrefillUnit::Kind::kContext:
      LUKV_RETURN_IF_ERROR(ContextChunk(group, begin, end, sinks));
      group.chunk_begin_ = end;
      return absl::OkStatus();  // The layer ends with its compaction at least.
    case PrefillUnit::Kind::kCompact:
      LUKV_RETURN_IF_ERROR(CompactLayer(group, sinks.scores));
      group.compacted_ = true;
      break;
    case PrefillUnit::Kind::kQuestion:
      LUKV_RETURN_IF_ERROR(QuestionChunk(group, begin, end, sinks));
      group.chunk_begin_ = end;
      break;
  }
  if (group.chunk_begin_ < group.tokens()) return absl::OkStatus();
  group.chunk_begin_ = 0;
  group.compacted_ = false;
  if (++group.layer_ < group.n_layers_) return absl::OkStatus();
  for (const PrefillGroup::Prompt& prompt : group.prompts_) {
    if (prompt.context == 0) continue;
    for (const PrefillTarget& target : prompt.targets) table_->ReturnSpare(target.slot);
  }
  return absl::OkStatus();
}

StagingView ModelRunner::Staging(const PrefillGroup& group) const {
  return StagingView{.k = group.staging_k_.data(),
                     .v = group.staging_v_.data(),
                     .dtype = options_.kv_dtype,
                     .capacity = group.context_tokens_,
                     .n_kv_heads = config().n_kv_heads,
                     .head_dim = config().head_dim};
}

Matrix ModelRunner::Hidden(const PrefillGroup& group, int32_t begin, int32_t end) const {
  return Rows(group.hidden_, begin, end, config().hidden);
}

// ---------------------------------------------------------------------------------------------------------------------
// Chunks

absl::Status ModelRunner::ContextChunk(PrefillGroup& group, int32_t begin, int32_t end, const PrefillSinks& sinks) {
  const LayerWeights& weights = model_.layers[static_cast<size_t>(group.layer_)];
  const Matrix x = Hidden(group, begin, end);
  LUKV_RETURN_IF_ERROR(AttentionInputs(weights, x, RowClass::kPrefill));
  const QkvArgs qkv = SplitArgs(weights, group.device_positions_.as<Position>() + begin, 0, x.rows);
  LUKV_RETURN_IF_ERROR(backend_.RopeStage({.qkv = qkv, .staging = Staging(group), .staging_row = begin}));

  const bool last_layer = group.layer_ + 1 == group.n_layers_;
  std::vector<PrefillSegment> segments;
  for (size_t p = 0; p < group.prompts_.size(); ++p) {
    PrefillGroup::Prompt& prompt = group.prompts_[p];
    const int32_t first = std::max(begin, prompt.context_row);
    const int32_t last = std::min(end, prompt.context_row + prompt.context);
    if (first >= last || prompt.dropped()) continue;
    if (prompt.evictor.has_value()) {
      const Stopwatch watch(group.eviction_time_);
      LUKV_RETURN_IF_ERROR(prompt.evictor->AddQueries(qkv.qkv, qkv.q_out, first - begin, first - prompt.context_row,
                                                      last - first, weights.q_norm.as<float>()));
    }
    PrefillSegment segment{.q_row = first - begin,
                           .n_query = last - first,
                           .context_row = prompt.context_row,
                           .first = first - prompt.context_row};
    if (!last_layer) {
      segments.push_back(segment);
      continue;
    }
    // K and V of every token are needed, but only the rows whose logits are wanted go on from here.
    const int32_t wanted = std::max(first, prompt.context_row + prompt.logits_from);
    if (wanted >= last) continue;
    segment.q_row += wanted - first;
    segment.first += wanted - first;
    segment.n_query = last - wanted;
    LUKV_RETURN_IF_ERROR(AttendContext(group, {&segment, 1}, x.rows));
    LUKV_RETURN_IF_ERROR(LastLayerRows(group, p, wanted, last, begin, sinks));
  }
  if (last_layer) return absl::OkStatus();
  LUKV_RETURN_IF_ERROR(AttendContext(group, segments, x.rows));
  LUKV_RETURN_IF_ERROR(AttentionOutput(weights, 0, x, RowClass::kPrefill));
  return Mlp(weights, x, RowClass::kPrefill);
}

absl::Status ModelRunner::AttendContext(const PrefillGroup& group, std::span<const PrefillSegment> segments,
                                        int64_t rows) {
  return backend_.PrefillAttention({.q = Rows(q_, rows, config().q_features()),
                                    .n_heads = config().n_heads,
                                    .staging = Staging(group),
                                    .segments = segments.data(),
                                    .n_segments = static_cast<int32_t>(segments.size()),
                                    .scale = scale_,
                                    .out = Rows(attention_, rows, config().q_features())});
}

absl::Status ModelRunner::QuestionChunk(PrefillGroup& group, int32_t begin, int32_t end, const PrefillSinks& sinks) {
  const LayerWeights& weights = model_.layers[static_cast<size_t>(group.layer_)];
  const Matrix x = Hidden(group, begin, end);
  const bool last_layer = group.layer_ + 1 == group.n_layers_;
  LUKV_RETURN_IF_ERROR(AttentionInputs(weights, x, group.rows_));
  for (size_t p = 0; p < group.prompts_.size(); ++p) {
    const PrefillGroup::Prompt& prompt = group.prompts_[p];
    const int32_t first = std::max(begin, prompt.question_row);
    const int32_t last = std::min(end, prompt.question_row + prompt.question);
    if (first >= last || prompt.dropped()) continue;
    LUKV_ASSIGN_OR_RETURN(const PageTableView table, TableUpTo(prompt, last - prompt.question_row));
    LUKV_RETURN_IF_ERROR(AppendQuestion(group, prompt, table, first, last, begin));
    // As for contexts; a context's tokens come before the question's in logits_from.
    const int32_t logits_row = prompt.question_row + std::max(0, prompt.logits_from - prompt.context);
    const int32_t wanted = last_layer ? std::max(first, logits_row) : first;
    if (wanted >= last) continue;
    LUKV_RETURN_IF_ERROR(AttendPages(group, prompt, table, wanted, last, begin));
    if (last_layer) LUKV_RETURN_IF_ERROR(LastLayerRows(group, p, wanted, last, begin, sinks));
  }
  if (last_layer) return absl::OkStatus();
  LUKV_RETURN_IF_ERROR(AttentionOutput(weights, 0, x, group.rows_));
  return Mlp(weights, x, group.rows_);
}

// The table counts a prompt's whole question from the start; a chunk sees the entries up to its own last.
absl::StatusOr<PageTableView> ModelRunner::TableUpTo(const PrefillGroup::Prompt& prompt, int32_t question_entries) {
  LUKV_RETURN_IF_ERROR(device_table_->Update());
  std::vector<int32_t> generated;
  for (int32_t slot = 0; slot < table_->n_slots(); ++slot) generated.push_back(table_->generated(Slot{slot}));
  for (const PrefillTarget& target : prompt.targets) {
    generated[static_cast<size_t>(Value(target.slot))] -= prompt.question - question_entries;
  }
  LUKV_RETURN_IF_ERROR(
      backend_.CopyToDevice(question_generated_.data(), generated.data(), generated.size() * sizeof(int32_t)));
  PageTableView view = device_table_->view();
  view.generated = question_generated_.as<int32_t>();
  return view;
}

// Rows [first, last) of the group, of one prompt's question, as one sequence of `slot`.
absl::StatusOr<SequenceRows> ModelRunner::QuestionRows(Slot slot, int32_t n_rows) {
  const int32_t rows[] = {0, n_rows};
  const int32_t id = Value(slot);
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(question_rows_.data(), rows, sizeof(rows)));
  LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(question_slot_.data(), &id, sizeof(id)));
  return SequenceRows{
      .slots = question_slot_.as<int32_t>(), .row_start = question_rows_.as<int32_t>(), .n_sequences = 1};
}

absl::Status ModelRunner::AppendQuestion(const PrefillGroup& group, const PrefillGroup::Prompt& prompt,
                                         const PageTableView& table, int32_t first, int32_t last, int32_t chunk_begin) {
  const LayerWeights& weights = model_.layers[static_cast<size_t>(group.layer_)];
  for (const PrefillTarget& target : prompt.targets) {
    LUKV_ASSIGN_OR_RETURN(const SequenceRows sequences, QuestionRows(target.slot, last - first));
    LUKV_RETURN_IF_ERROR(backend_.Append({.qkv = SplitArgs(weights, group.device_positions_.as<Position>() + first,
                                                           first - chunk_begin, last - chunk_begin),
                                          .sequences = sequences,
                                          .table = table,
                                          .layer = group.layer_,
                                          .pages = Pages()}));
  }
  return absl::OkStatus();
}

// Attention of rows [first, last); all targets hold the same, so one is asked.
absl::Status ModelRunner::AttendPages(const PrefillGroup& group, const PrefillGroup::Prompt& prompt,
                                      const PageTableView& table, int32_t first, int32_t last, int32_t chunk_begin) {
  LUKV_ASSIGN_OR_RETURN(const SequenceRows sequences, QuestionRows(prompt.targets.front().slot, last - first));
  const int64_t begin = first - chunk_begin;
  const int64_t end = last - chunk_begin;
  return backend_.PagedAttention({.q = Rows(q_, begin, end, config().q_features()),
                                  .n_heads = config().n_heads,
                                  .sequences = sequences,
                                  .table = table,
                                  .layer = group.layer_,
                                  .pages = Pages(),
                                  .scale = scale_,
                                  .out = Rows(attention_, begin, end, config().q_features())});
}

// Rows [first, last) of the group, all of one part of one prompt, whose attention is done.
absl::Status ModelRunner::LastLayerRows(PrefillGroup& group, size_t prompt_index, int32_t first, int32_t last,
                                        int32_t chunk_begin, const PrefillSinks& sinks) {
  const LayerWeights& weights = model_.layers.back();
  const PrefillGroup::Prompt& prompt = group.prompts_[prompt_index];
  const Matrix x = Hidden(group, first, last);
  LUKV_RETURN_IF_ERROR(AttentionOutput(weights, first - chunk_begin, x, group.rows_));
  LUKV_RETURN_IF_ERROR(Mlp(weights, x, group.rows_));
  const int32_t token_of_row_0 =
      first < group.context_tokens_ ? -prompt.context_row : prompt.context - prompt.question_row;
  const size_t vocabulary = static_cast<size_t>(config().vocabulary);
  for (int32_t row = first; row < last; row += static_cast<int32_t>(max_logit_rows_)) {
    const int32_t block_end = std::min(last, row + static_cast<int32_t>(max_logit_rows_));
    LUKV_RETURN_IF_ERROR(Logits(Hidden(group, row, block_end)));
    if (sinks.rows != nullptr) {
      for (int32_t r = row; r < block_end; ++r) {
        LUKV_RETURN_IF_ERROR(sinks.rows(prompt_index, static_cast<size_t>(r + token_of_row_0), r - row));
      }
    }
    if (sinks.logits == nullptr) continue;
    LUKV_ASSIGN_OR_RETURN(const std::span<const float> logits, HostLogits(block_end - row));
    for (int32_t r = row; r < block_end; ++r) {
      sinks.logits(prompt_index, static_cast<size_t>(r + token_of_row_0),
                   logits.subspan(static_cast<size_t>(r - row) * vocabulary, vocabulary));
    }
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------------------------------
// The end of a layer

absl::Status ModelRunner::CompactLayer(PrefillGroup& group, const ScoreSink& sink) {
  for (size_t p = 0; p < group.prompts_.size(); ++p) {
    if (group.prompts_[p].context > 0) LUKV_RETURN_IF_ERROR(CompactPrompt(group, p, sink));
  }
  return absl::OkStatus();
}

absl::Status ModelRunner::CompactPrompt(PrefillGroup& group, size_t prompt_index, const ScoreSink& sink) {
  PrefillGroup::Prompt& prompt = group.prompts_[prompt_index];
  for (const PrefillTarget& target : prompt.targets) {
    if (!Evicts(target)) LUKV_RETURN_IF_ERROR(CompactInto(group, prompt, target.slot, nullptr));
  }
  if (!prompt.evictor.has_value() || prompt.dropped()) return absl::OkStatus();
  LayerEvictor& evictor = *prompt.evictor;
  const StagedContext context{.staging = Staging(group), .context_row = prompt.context_row, .n_tokens = prompt.context};
  // Targets of the same scorer share its scores, and those of the same plan its choice.
  for (const ScorerSettings& scorer : evictor.scorers()) {
    ScoreMatrix scores;
    {
      const Stopwatch watch(group.eviction_time_);
      LUKV_ASSIGN_OR_RETURN(scores, evictor.Score(scorer, group.layer_, context));
    }
    if (sink != nullptr && std::find(prompt.observed.begin(), prompt.observed.end(), scorer) != prompt.observed.end()) {
      std::vector<float> host(static_cast<size_t>(scores.n_kv_heads) * static_cast<size_t>(scores.n_tokens));
      LUKV_RETURN_IF_ERROR(backend_.CopyToHost(host.data(), scores.data, host.size() * sizeof(float)));
      LUKV_RETURN_IF_ERROR(sink(prompt_index, group.layer_, scorer, host));
    }
    const EvictionPlan* chosen = nullptr;
    KeptRows kept;
    for (const PrefillTarget& target : prompt.targets) {
      if (!Evicts(target) || target.plan->policy().scorer != scorer) continue;
      if (target.plan != chosen) {
        const Stopwatch watch(group.eviction_time_);
        LUKV_ASSIGN_OR_RETURN(kept, evictor.Choose(*target.plan, group.layer_, scores));
        chosen = target.plan;
      }
      LUKV_RETURN_IF_ERROR(CompactInto(group, prompt, target.slot, &kept));
    }
  }
  return absl::OkStatus();
}

// kept == null: everything.
absl::Status ModelRunner::CompactInto(const PrefillGroup& group, const PrefillGroup::Prompt& prompt, Slot slot,
                                      const KeptRows* kept) {
  const std::vector<int32_t> all(static_cast<size_t>(config().n_kv_heads), prompt.context);
  table_->SetKept(slot, group.layer_, kept != nullptr ? kept->counts : all);
  LUKV_RETURN_IF_ERROR(device_table_->Update());
  return backend_.Compact({.staging = Staging(group),
                           .context_row = prompt.context_row,
                           .kept_rows = kept != nullptr ? kept->rows : nullptr,
                           .kept_offset = kept != nullptr ? kept->offset : nullptr,
                           .slot = Value(slot),
                           .layer = group.layer_,
                           .table = device_table_->view(),
                           .pages = Pages()});
}

}  // namespace lukv
