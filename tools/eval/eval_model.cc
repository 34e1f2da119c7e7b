#include "tools/eval/eval_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/share_folder.h"
#include "base/status_macros.h"
#include "engine/model/fingerprint.h"
#include "kernels/cpu/cpu_backend.h"
#include "tools/eval/scoring.h"

namespace lukv {
namespace {

constexpr int32_t kMaxSlots = 128;
constexpr size_t kQuestionsAtOnce = 16;  // A group holds the hidden states of all of them.
constexpr int kMeasuredSteps = 3;

TokenId Best(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// In place: logits become log-probabilities.
void ToLogProbabilities(std::span<float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - most));
  const float log_sum = most + static_cast<float>(std::log(sum));
  for (float& logit : logits) logit -= log_sum;
}

double KlDivergence(std::span<const float> log_p, std::span<const float> log_q) {
  double sum = 0;
  for (size_t i = 0; i < log_p.size(); ++i) {
    sum += std::exp(static_cast<double>(log_p[i])) * static_cast<double>(log_p[i] - log_q[i]);
  }
  return sum;
}

}  // namespace

struct EvalModel::Round {
  size_t begin = 0;
  size_t end = 0;
  std::vector<PrefillTarget> targets;  // Of policies [begin, end); slots from 0 on.
  double prefill_s = 0;
};

absl::StatusOr<std::unique_ptr<EvalModel>> EvalModel::Open(const EvalModelOptions& options,
                                                           const std::atomic<bool>& stop) {
  std::unique_ptr<EvalModel> m(new EvalModel(stop));
  LUKV_ASSIGN_OR_RETURN(m->weights_, OpenWeights(options.model));
  LUKV_ASSIGN_OR_RETURN(m->tokenizer_, LoadTokenizer(options.model));
  const ModelConfig& config = m->weights_->config();
  if (options.max_length > config.context_length) {
    return absl::InvalidArgumentError(absl::StrCat("samples of up to ", options.max_length,
                                                   " tokens, the model was made for ", config.context_length));
  }
  LUKV_ASSIGN_OR_RETURN(m->fingerprint_, ModelFingerprint(*m->weights_));
  LUKV_ASSIGN_OR_RETURN(m->curves_, options.curves.empty()
                                        ? CurveSet::Find(ShareFolder("profiles"), config, m->fingerprint_)
                                        : CurveSet::LoadFolder(options.curves, config, m->fingerprint_));
  LUKV_ASSIGN_OR_RETURN(m->backend_, MakeCpuBackend({.threads = options.threads}));
  LUKV_ASSIGN_OR_RETURN(Model model, Model::Load(*m->weights_, *m->backend_));
  m->model_ = std::make_unique<Model>(std::move(model));
  RunnerOptions runner{.n_slots = kMaxSlots, .max_context = options.max_length};
  const int64_t page_bytes = ModelRunner::PageBytes(config, runner.kv_dtype, runner.page_tokens);
  runner.n_pages = static_cast<uint32_t>(std::min<int64_t>(options.kv_memory / page_bytes, INT32_MAX));
  LUKV_ASSIGN_OR_RETURN(m->runner_, ModelRunner::Create(*m->model_, *m->backend_, runner));
  return m;
}

absl::Status EvalModel::CheckStop() const { return stop_ ? absl::CancelledError("interrupted") : absl::OkStatus(); }

absl::Status EvalModel::CheckPolicies(std::span<const Policy> policies) const {
  for (const Policy& policy : policies) {
    if (policy.full || policy.allocator != Allocator::kLuKv) continue;
    if (curves_.Get(policy.scorer, policy.sink, policy.window) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("there is no budget curve of this model (", fingerprint_, ") for ",
                                                     ScorerLabel(policy.scorer, policy.sink, policy.window),
                                                     "; lukv-profile makes one"));
    }
  }
  return absl::OkStatus();
}

// Null: everything is kept.
absl::StatusOr<std::vector<std::unique_ptr<EvictionPlan>>> EvalModel::MakePlans(std::span<const Policy> policies,
                                                                                int32_t n_tokens) const {
  std::vector<std::unique_ptr<EvictionPlan>> plans;
  for (const Policy& policy : policies) {
    if (policy.full) {
      plans.push_back(nullptr);
      continue;
    }
    LUKV_ASSIGN_OR_RETURN(EvictionPlan plan,
                          EvictionPlan::Make(policy, n_tokens, runner_->table().geometry(),
                                             ModelRunner::PageBytes(config(), runner_->options().kv_dtype, 1),
                                             curves_.Get(policy.scorer, policy.sink, policy.window)));
    plans.push_back(std::make_unique<EvictionPlan>(std::move(plan)));
  }
  return plans;
}

absl::Status EvalModel::Prefill(std::span<const PrefillPrompt> prompts, const PrefillSinks& sinks) {
  LUKV_ASSIGN_OR_RETURN(PrefillGroup group, runner_->BeginPrefill(prompts));
  while (!group.done()) {
    LUKV_RETURN_IF_ERROR(CheckStop());
    LUKV_RETURN_IF_ERROR(runner_->RunPrefillUnit(group, sinks));
  }
  return absl::OkStatus();
}

absl::StatusOr<EvalModel::Round> EvalModel::StartRound(const SampleTokens& tokens,
                                                       std::span<const std::unique_ptr<EvictionPlan>> plans,
                                                       size_t begin, int32_t room) {
  Round round{.begin = begin, .end = begin};
  const int32_t context = static_cast<int32_t>(tokens.context.size());
  uint32_t pages = 0;
  while (round.end < plans.size() && round.end - begin < static_cast<size_t>(kMaxSlots)) {
    const EvictionPlan* plan = plans[round.end].get();
    const uint32_t needed = runner_->PagesToOpen(plan, context, room);
    if (pages + needed > runner_->pool().total()) break;
    pages += needed;
    round.targets.push_back({.slot = Slot{static_cast<int32_t>(round.end - begin)}, .plan = plan});
    ++round.end;
  }
  if (round.targets.empty()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a context of ", context, " tokens needs ", runner_->PagesToOpen(plans[begin].get(), context, room),
        " KV pages, there are ", runner_->pool().total(), ": raise --kv-memory"));
  }
  for (const PrefillTarget& target : round.targets) {
    const absl::Status opened = runner_->OpenSlot(target, context, 0, room);
    LUKV_CHECK(opened.ok());  // Counted above.
  }
  const absl::Time start = absl::Now();
  const PrefillPrompt prompt{.context = tokens.context, .targets = round.targets};
  if (absl::Status status = Prefill({&prompt, 1}, {}); !status.ok()) {
    Release(round);
    return status;
  }
  round.prefill_s = absl::ToDoubleSeconds(absl::Now() - start);
  return round;
}

void EvalModel::Release(const Round& round) {
  for (const PrefillTarget& target : round.targets) runner_->table().Release(target.slot);
}

EvalCost EvalModel::CostOf(const Round& round, size_t index, size_t n_tokens) const {
  const PrefillTarget& target = round.targets[index];
  const int64_t page_bytes =
      ModelRunner::PageBytes(config(), runner_->options().kv_dtype, runner_->options().page_tokens);
  return EvalCost{.kv_bytes_full = runner_->PagesToOpen(nullptr, static_cast<int32_t>(n_tokens), 0) * page_bytes,
                  .kv_bytes_resident = runner_->table().pages_held(target.slot) * page_bytes,
                  .ratio = target.plan != nullptr ? target.plan->ratio() : 0,
                  .prefill_s = round.prefill_s};
}

absl::StatusOr<std::vector<EvalAnswer>> EvalModel::Answer(const EvalSample& sample, const SampleTokens& tokens,
                                                          std::span<const Policy> policies, bool measure) {
  const int32_t context = static_cast<int32_t>(tokens.context.size());
  const int32_t question = static_cast<int32_t>(tokens.question.size());
  LUKV_ASSIGN_OR_RETURN(const auto plans, MakePlans(policies, context));
  std::vector<EvalAnswer> answers(policies.size());
  for (size_t begin = 0; begin < policies.size();) {
    LUKV_ASSIGN_OR_RETURN(const Round round, StartRound(tokens, plans, begin, question + sample.max_new_tokens));
    const absl::Cleanup release = [&] { Release(round); };
    std::vector<TokenId> next(round.targets.size());
    for (size_t first = 0; first < round.targets.size(); first += kQuestionsAtOnce) {
      std::vector<PrefillPrompt> prompts;
      for (size_t i = first; i < std::min(first + kQuestionsAtOnce, round.targets.size()); ++i) {
        LUKV_RETURN_IF_ERROR(runner_->GrowSlot(round.targets[i].slot, question));
        prompts.push_back({.question = tokens.question,
                           .first_position = Position{context},
                           .targets = {{.slot = round.targets[i].slot}}});
      }
      const LogitsSink sink = [&](size_t prompt, size_t, std::span<const float> logits) {
        next[first + prompt] = Best(logits);
      };
      LUKV_RETURN_IF_ERROR(Prefill(prompts, {.logits = sink}));
    }
    for (size_t i = 0; i < round.targets.size(); ++i) {
      EvalCost& cost = answers[begin + i].cost;
      cost = CostOf(round, i, tokens.size());
      if (measure) {
        LUKV_ASSIGN_OR_RETURN(cost.decode_s, MeasureDecode(round.targets[i].slot, next[i], context + question));
      }
    }
    LUKV_RETURN_IF_ERROR(
        DecodeAnswers(sample, tokens, round, std::move(next), std::span(answers).subspan(begin, round.targets.size())));
    begin = round.end;
  }
  return answers;
}

// The fastest of a few steps, which are taken back.
absl::StatusOr<double> EvalModel::MeasureDecode(Slot slot, TokenId token, int32_t position) {
  const int32_t generated = runner_->table().generated(slot);
  double best = 0;
  for (int step = 0; step < kMeasuredSteps; ++step) {
    LUKV_RETURN_IF_ERROR(runner_->GrowSlot(slot, 1));
    const DecodeRow row{.slot = slot, .token = token, .position = Position{position}};
    const absl::Time start = absl::Now();
    LUKV_RETURN_IF_ERROR(runner_->Decode({&row, 1}).status());
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    best = step == 0 ? seconds : std::min(best, seconds);
    runner_->table().Truncate(slot, generated);
  }
  return best;
}

absl::Status EvalModel::DecodeAnswers(const EvalSample& sample, const SampleTokens& tokens, const Round& round,
                                      std::vector<TokenId> next, std::span<EvalAnswer> answers) {
  const std::vector<TokenId>& ends = tokenizer_->end_tokens();
  std::vector<std::vector<TokenId>> ids(answers.size());
  std::vector<size_t> running(answers.size());
  std::iota(running.begin(), running.end(), size_t{0});
  for (int32_t step = 0;; ++step) {
    LUKV_RETURN_IF_ERROR(CheckStop());
    std::erase_if(running, [&](size_t i) {
      if (std::find(ends.begin(), ends.end(), next[i]) != ends.end()) return true;
      ids[i].push_back(next[i]);
      answers[i].text = tokenizer_->Decode(ids[i], /*special=*/false);
      return step + 1 == sample.max_new_tokens || ScoreIsFinal(sample, answers[i].text);
    });
    if (running.empty()) return absl::OkStatus();
    std::vector<DecodeRow> rows;
    for (const size_t i : running) {
      LUKV_RETURN_IF_ERROR(runner_->GrowSlot(round.targets[i].slot, 1));
      rows.push_back({.slot = round.targets[i].slot,
                      .token = next[i],
                      .position = Position{static_cast<int32_t>(tokens.size()) + step}});
    }
    LUKV_ASSIGN_OR_RETURN(const std::span<const float> logits, runner_->Decode(rows));
    const size_t vocabulary = logits.size() / rows.size();
    for (size_t r = 0; r < rows.size(); ++r) next[running[r]] = Best(logits.subspan(r * vocabulary, vocabulary));
  }
}

absl::StatusOr<std::vector<EvalLikelihood>> EvalModel::Likelihood(const SampleTokens& tokens,
                                                                  std::span<const Policy> policies) {
  const size_t question = tokens.question.size();
  LUKV_CHECK(question >= 2);
  const int32_t context = static_cast<int32_t>(tokens.context.size());
  // The full cache comes first: it is what the others are compared with.
  std::vector<Policy> all = {Policy()};
  all.insert(all.end(), policies.begin(), policies.end());
  LUKV_ASSIGN_OR_RETURN(const auto plans, MakePlans(all, context));
  const size_t vocabulary = static_cast<size_t>(config().vocabulary);
  std::vector<float> reference;  // Log-probabilities of the full cache, [question - 1, vocabulary].
  std::vector<EvalLikelihood> results(all.size());
  for (size_t begin = 0; begin < all.size();) {
    LUKV_ASSIGN_OR_RETURN(const Round round, StartRound(tokens, plans, begin, static_cast<int32_t>(question) + 1));
    const absl::Cleanup release = [&] { Release(round); };
    for (size_t i = 0; i < round.targets.size(); ++i) {
      EvalLikelihood& result = results[begin + i];
      const bool is_reference = begin + i == 0;
      LUKV_RETURN_IF_ERROR(runner_->GrowSlot(round.targets[i].slot, static_cast<int32_t>(question)));
      const PrefillPrompt prompt{.question = tokens.question,
                                 .first_position = Position{context},
                                 .targets = {{.slot = round.targets[i].slot}},
                                 .logits_from = 0};
      const LogitsSink sink = [&](size_t, size_t token, std::span<const float> logits) {
        if (token + 1 == question) return;  // What follows is not known.
        std::vector<float> log_q(logits.begin(), logits.end());
        ToLogProbabilities(log_q);
        if (is_reference) reference.insert(reference.end(), log_q.begin(), log_q.end());
        const std::span<const float> log_p = std::span(reference).subspan(token * vocabulary, vocabulary);
        result.nll -= static_cast<double>(log_q[static_cast<size_t>(tokens.question[token + 1])]);
        result.kl += KlDivergence(log_p, log_q);
        result.top1 += Best(log_p) == Best(log_q) ? 1 : 0;
      };
      LUKV_RETURN_IF_ERROR(Prefill({&prompt, 1}, {.logits = sink}));
      const double judged = static_cast<double>(question - 1);
      result.nll /= judged;
      result.kl /= judged;
      result.top1 /= judged;
      result.cost = CostOf(round, i, tokens.size());
      LUKV_ASSIGN_OR_RETURN(result.cost.decode_s,
                            MeasureDecode(round.targets[i].slot, tokens.question.back(),
                                          context + static_cast<int32_t>(question)));
    }
    begin = round.end;
  }
  results.erase(results.begin());
  return results;
}

}  // namespace lukv
