#include "tools/profile/profiled_context.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "engine/evict/budget_curve.h"
#include "engine/evict/curve_solver.h"
#include "engine/sample/sampler.h"
#include "tools/profile/oracle.h"

namespace lukv {
namespace {

constexpr Slot kSlot{0};

absl::Status CheckStop(const std::atomic<bool>& stop) {
  return stop ? absl::CancelledError("stopped") : absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProfiledContext>> ProfiledContext::Make(ModelRunner& runner, const WeightSource& weights,
                                                                       std::span<const TokenId> context, int32_t room,
                                                                       std::span<const ProfileScorer> scorers,
                                                                       const std::atomic<bool>& stop) {
  const auto n_tokens = static_cast<int32_t>(context.size());
  LUKV_RETURN_IF_ERROR(runner.OpenSlot({.slot = kSlot}, n_tokens, 0, room));
  std::unique_ptr<ProfiledContext> result(new ProfiledContext(runner, stop, n_tokens));
  LUKV_RETURN_IF_ERROR(result->PrefillContext(context, scorers));
  LUKV_ASSIGN_OR_RETURN(result->norms_, ValueNorms(runner, weights, kSlot, n_tokens));
  return result;
}

ProfiledContext::~ProfiledContext() { runner_.table().Release(kSlot); }

absl::Status ProfiledContext::Prefill(const PrefillPrompt& prompt, const PrefillSinks& sinks) {
  LUKV_ASSIGN_OR_RETURN(PrefillGroup group, runner_.BeginPrefill({&prompt, 1}));
  while (!group.done()) {
    LUKV_RETURN_IF_ERROR(CheckStop(stop_));
    LUKV_RETURN_IF_ERROR(runner_.RunPrefillUnit(group, sinks));
  }
  return absl::OkStatus();
}

absl::Status ProfiledContext::PrefillContext(std::span<const TokenId> context, std::span<const ProfileScorer> scorers) {
  const auto kv_heads = static_cast<size_t>(runner_.config().n_kv_heads);
  const auto tokens = static_cast<size_t>(n_tokens_);
  PrefillPrompt prompt{.context = context, .targets = {{.slot = kSlot}}};
  for (const ProfileScorer& scorer : scorers) {
    // Two curves may share a scorer and differ in their protection.
    std::vector<ScorerSettings>& observed = prompt.observed_scorers;
    if (std::find(observed.begin(), observed.end(), scorer.settings) == observed.end()) {
      observed.push_back(scorer.settings);
    }
    rankings_.push_back({.n_protected = std::min(n_tokens_, scorer.sink + scorer.window)});
  }
  const auto on_scores = [&](size_t, int32_t, const ScorerSettings& settings, std::span<const float> scores) {
    LUKV_CHECK(scores.size() == kv_heads * tokens);
    for (size_t s = 0; s < scorers.size(); ++s) {
      if (!(scorers[s].settings == settings)) continue;
      std::vector<int32_t>& entries = rankings_[s].entries;
      for (size_t h = 0; h < kv_heads; ++h) {
        const std::vector<int32_t> ranked =
            RankEntries(scores.subspan(h * tokens, tokens), scorers[s].sink, scorers[s].window);
        entries.insert(entries.end(), ranked.begin(), ranked.end());
      }
    }
    return absl::OkStatus();
  };
  LUKV_RETURN_IF_ERROR(Prefill(prompt, {.scores = on_scores}));
  const size_t heads = static_cast<size_t>(runner_.config().n_layers) * kv_heads;
  for (const Ranking& ranking : rankings_) {
    LUKV_CHECK(ranking.entries.size() == heads * static_cast<size_t>(n_tokens_ - ranking.n_protected));
  }
  return absl::OkStatus();
}

absl::StatusOr<ProfiledContext::Answer> ProfiledContext::Ask(std::span<const TokenId> question,
                                                             const AnswerOptions& options) {
  const absl::Cleanup take_back = [this] { runner_.table().Truncate(kSlot, 0); };
  Answer answer;
  LUKV_RETURN_IF_ERROR(Decode(question, options, answer));
  return answer;
}

absl::Status ProfiledContext::Decode(std::span<const TokenId> question, const AnswerOptions& options, Answer& answer) {
  // An answer that ended at once would have seen nothing of the context.
  Sampler sampler({.temperature = options.temperature, .seed = options.seed}, question, /*sample=*/0, /*min_tokens=*/1,
                  options.end_ids);
  const auto choose = [&](int32_t row) -> absl::Status {
    SampleBatch batch;
    sampler.AddRow(row, /*n_top=*/-1, batch);
    LUKV_ASSIGN_OR_RETURN(const std::vector<SampledToken> chosen, runner_.Sample(batch));
    answer.tokens.push_back(chosen.front().token);
    sampler.Took(chosen.front().token);
    return absl::OkStatus();
  };
  const auto n_question = static_cast<int32_t>(question.size());
  LUKV_RETURN_IF_ERROR(runner_.GrowSlot(kSlot, n_question));
  LUKV_RETURN_IF_ERROR(
      Prefill({.question = question, .first_position = Position{n_tokens_}, .targets = {{.slot = kSlot}}},
              {.rows = [&](size_t, size_t, int32_t row) { return choose(row); }}));

  OracleImportance importance(runner_.config(), n_tokens_, norms_);
  const DecodeObserver observer{.n_entries = n_tokens_,
                                .on_weights = [&](int32_t layer, std::span<const float> weights) {
                                  importance.Observe(layer, weights);
                                  return absl::OkStatus();
                                }};
  while (true) {
    const TokenId token = answer.tokens.back();
    const bool ended = std::find(options.end_ids.begin(), options.end_ids.end(), token) != options.end_ids.end();
    if (ended || static_cast<int32_t>(answer.tokens.size()) == options.max_new) break;
    LUKV_RETURN_IF_ERROR(CheckStop(stop_));
    LUKV_RETURN_IF_ERROR(runner_.GrowSlot(kSlot, 1));
    const DecodeRow row{.slot = kSlot,
                        .token = token,
                        .position = Position{n_tokens_ + n_question + static_cast<int32_t>(answer.tokens.size()) - 1}};
    LUKV_RETURN_IF_ERROR(runner_.Decode({&row, 1}, &observer));
    LUKV_RETURN_IF_ERROR(choose(0));
  }
  answer.importance.assign(importance.values().begin(), importance.values().end());
  return absl::OkStatus();
}

std::vector<float> ProfiledContext::Solve(size_t scorer, std::span<const float> importance) const {
  const Ranking& ranking = rankings_[scorer];
  const auto tokens = static_cast<size_t>(n_tokens_);
  const size_t n_ranked = tokens - static_cast<size_t>(ranking.n_protected);
  const size_t heads = importance.size() / tokens;
  std::vector<double> relaxed(heads * n_ranked);
  for (size_t h = 0; h < heads; ++h) {
    const std::span<double> decrements(relaxed.data() + h * n_ranked, n_ranked);
    for (size_t i = 0; i < n_ranked; ++i) {
      decrements[i] = importance[h * tokens + static_cast<size_t>(ranking.entries[h * n_ranked + i])];
    }
    RelaxDecrements(decrements);
  }
  const std::vector<int32_t> kept = SolveBudgets(n_tokens_, ranking.n_protected, static_cast<int32_t>(heads), relaxed);
  std::vector<float> ratios(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    ratios[i] = static_cast<float>(1.0 - static_cast<double>(kept[i]) / n_tokens_);
  }
  return ratios;
}

}  // namespace lukv
