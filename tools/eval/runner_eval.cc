#include "tools/eval/runner_eval.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "tools/eval/scoring.h"

namespace lukv {
namespace {

// Questions that are prefilled together: enough tokens to fill the linear layers, not so many that their hidden states
// take much memory.
constexpr size_t kMostQuestions = 16;
constexpr size_t kMostQuestionTokens = 4096;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Slot SlotOf(size_t index) { return Slot{static_cast<int32_t>(index)}; }

}  // namespace

// An answer on its way.
struct PolicyRunner::Decoding {
  TokenId next = 0;      // Chosen, and not in the cache yet.
  int32_t position = 0;  // Where it goes.
  int32_t generated = 0;
  std::string text;
  bool done = false;
};

TokenId Likeliest(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

PolicyRunner::PolicyRunner(ModelRunner& runner, const Tokenizer& tokenizer, std::vector<EvalPolicy> policies,
                           const std::atomic<bool>& stop)
    : runner_(runner), tokenizer_(tokenizer), policies_(std::move(policies)), stop_(stop) {}

absl::Status PolicyRunner::CheckStop() const { return stop_ ? absl::CancelledError("stopped") : absl::OkStatus(); }

absl::StatusOr<std::vector<std::optional<EvictionPlan>>> PolicyRunner::MakePlans(int32_t context) const {
  const int64_t entry_bytes = ModelRunner::PageBytes(runner_.config(), runner_.options().kv_dtype, 1);
  std::vector<std::optional<EvictionPlan>> plans;
  for (const EvalPolicy& policy : policies_) {
    plans.emplace_back();
    if (policy.policy.full) continue;
    LUKV_ASSIGN_OR_RETURN(plans.back(), EvictionPlan::Make(policy.policy, context, runner_.table().geometry(),
                                                           entry_bytes, policy.curve));
  }
  return plans;
}

absl::Status PolicyRunner::ForEachRound(std::span<const TokenId> context, int32_t more,
                                        absl::FunctionRef<absl::Status(const PolicyRound&)> use) {
  const int32_t n_context = static_cast<int32_t>(context.size());
  LUKV_ASSIGN_OR_RETURN(plans_, MakePlans(n_context));
  for (size_t next = 0; next < policies_.size();) {
    PolicyRound round{.policies = {}, .context_tokens = n_context};
    uint32_t pages = 0;
    while (next < policies_.size() && round.policies.size() < static_cast<size_t>(runner_.options().n_slots)) {
      const uint32_t needed = runner_.PagesToOpen(Plan(next), n_context, more);
      if (pages + needed > runner_.pool().free()) break;
      pages += needed;
      round.policies.push_back(next++);
    }
    if (round.policies.empty()) {
      return absl::ResourceExhaustedError(StrCat("the KV cache of ", n_context + more, " tokens under ",
                                                 policies_[next].name, " takes ",
                                                 runner_.PagesToOpen(Plan(next), n_context, more),
                                                 " pages, --kv-memory has room for ", runner_.pool().total()));
    }
    const absl::Cleanup release = [&] {
      for (size_t i = 0; i < round.policies.size(); ++i) {
        if (runner_.table().in_use(SlotOf(i))) runner_.table().Release(SlotOf(i));
      }
    };
    LUKV_RETURN_IF_ERROR(OpenAndPrefill(context, more, round));
    LUKV_RETURN_IF_ERROR(use(round));
  }
  return absl::OkStatus();
}

absl::Status PolicyRunner::OpenAndPrefill(std::span<const TokenId> context, int32_t more, PolicyRound& round) {
  PrefillPrompt prompt{.context = context};
  for (size_t i = 0; i < round.policies.size(); ++i) {
    prompt.targets.push_back({.slot = SlotOf(i), .plan = Plan(round.policies[i])});
    LUKV_RETURN_IF_ERROR(runner_.OpenSlot(prompt.targets.back(), round.context_tokens, 0, more));
  }
  const Clock::time_point start = Clock::now();
  LUKV_RETURN_IF_ERROR(RunGroup({&prompt, 1}, {}));
  round.prefill_s = SecondsSince(start);
  return absl::OkStatus();
}

absl::Status PolicyRunner::RunGroup(std::span<const PrefillPrompt> prompts, const PrefillSinks& sinks) {
  LUKV_ASSIGN_OR_RETURN(PrefillGroup group, runner_.BeginPrefill(prompts));
  while (!group.done()) {
    LUKV_RETURN_IF_ERROR(CheckStop());
    LUKV_RETURN_IF_ERROR(runner_.RunPrefillUnit(group, sinks));
  }
  return absl::OkStatus();
}

absl::Status PolicyRunner::Ask(const PolicyRound& round, size_t first, size_t last, std::span<const TokenId> question,
                               size_t logits_from, const SlotLogitsSink& sink) {
  const size_t at_once = std::clamp<size_t>(kMostQuestionTokens / question.size(), 1, kMostQuestions);
  for (size_t begin = first; begin < last; begin += at_once) {
    std::vector<PrefillPrompt> prompts;
    for (size_t i = begin; i < std::min(last, begin + at_once); ++i) {
      LUKV_RETURN_IF_ERROR(runner_.GrowSlot(SlotOf(i), static_cast<int32_t>(question.size())));
      prompts.push_back({.question = question,
                         .first_position = Position{round.context_tokens},
                         .targets = {{.slot = SlotOf(i)}},
                         .logits_from = logits_from});
    }
    const auto to_slot = [&](size_t prompt, size_t token, std::span<const float> logits) {
      sink(begin + prompt, token, logits);
    };
    LUKV_RETURN_IF_ERROR(RunGroup(prompts, {.logits = to_slot}));
  }
  return absl::OkStatus();
}

PolicyCost PolicyRunner::Cost(const PolicyRound& round, size_t slot, size_t question_tokens) const {
  const RunnerOptions& options = runner_.options();
  const int64_t page_bytes = ModelRunner::PageBytes(runner_.config(), options.kv_dtype, options.page_tokens);
  const int32_t question = static_cast<int32_t>(question_tokens);
  const EvictionPlan* const plan = Plan(round.policies[slot]);
  return {.ratio = plan == nullptr ? 0 : plan->ratio(),
          .kv_bytes_full = page_bytes * runner_.PagesToOpen(nullptr, round.context_tokens, question),
          .kv_bytes_resident = page_bytes * runner_.table().pages_held(SlotOf(slot)),
          .prefill_s = round.prefill_s,
          .decode_s = {}};
}

absl::StatusOr<double> PolicyRunner::TimeDecode(size_t slot, TokenId token, int32_t position) {
  double best = 0;
  for (int32_t step = 0; step < kTimedSteps; ++step) {
    LUKV_RETURN_IF_ERROR(CheckStop());
    LUKV_RETURN_IF_ERROR(runner_.GrowSlot(SlotOf(slot), 1));
    const DecodeRow row{.slot = SlotOf(slot), .token = token, .position = Position{position + step}};
    const Clock::time_point start = Clock::now();
    LUKV_RETURN_IF_ERROR(runner_.Decode({&row, 1}));
    const double seconds = SecondsSince(start);
    if (step == 0 || seconds < best) best = seconds;
  }
  return best;
}

// Takes `decodings[slot].next` into each answer and decodes all that go on, together, until none does.
absl::Status PolicyRunner::DecodeAll(const EvalSample& sample, std::vector<Decoding>& decodings) {
  const std::vector<TokenId>& end_tokens = tokenizer_.end_tokens();
  const auto take = [&](Decoding& decoding) {
    ++decoding.generated;
    if (std::find(end_tokens.begin(), end_tokens.end(), decoding.next) != end_tokens.end()) {
      decoding.done = true;
      return;
    }
    decoding.text += tokenizer_.Piece(decoding.next, false);
    decoding.done = decoding.generated == sample.max_new_tokens || ScoreIsFinal(sample, decoding.text);
  };
  for (Decoding& decoding : decodings) take(decoding);
  while (true) {
    LUKV_RETURN_IF_ERROR(CheckStop());
    std::vector<DecodeRow> rows;
    for (size_t i = 0; i < decodings.size(); ++i) {
      Decoding& decoding = decodings[i];
      if (decoding.done) continue;
      LUKV_RETURN_IF_ERROR(runner_.GrowSlot(SlotOf(i), 1));
      rows.push_back({.slot = SlotOf(i), .token = decoding.next, .position = Position{decoding.position++}});
    }
    if (rows.empty()) return absl::OkStatus();
    LUKV_RETURN_IF_ERROR(runner_.Decode(rows));
    LUKV_ASSIGN_OR_RETURN(const std::span<const float> logits, runner_.HostLogits(static_cast<int64_t>(rows.size())));
    const size_t vocabulary = logits.size() / rows.size();
    for (size_t r = 0; r < rows.size(); ++r) {
      Decoding& decoding = decodings[static_cast<size_t>(Value(rows[r].slot))];
      decoding.next = Likeliest(logits.subspan(r * vocabulary, vocabulary));
      take(decoding);
    }
  }
}

absl::StatusOr<std::vector<PolicyAnswer>> PolicyRunner::Answer(const EvalSample& sample, const SampleTokens& tokens,
                                                               bool time_decode) {
  LUKV_CHECK(!tokens.context.empty() && !tokens.question.empty());
  std::vector<PolicyAnswer> answers(policies_.size());
  const int32_t question = static_cast<int32_t>(tokens.question.size());
  const int32_t more = question + sample.max_new_tokens + kTimedSteps;
  const auto use = [&](const PolicyRound& round) -> absl::Status {
    std::vector<Decoding> decodings(round.policies.size());
    const auto choose = [&](size_t slot, size_t, std::span<const float> logits) {
      decodings[slot] = {.next = Likeliest(logits), .position = round.context_tokens + question};
    };
    LUKV_RETURN_IF_ERROR(Ask(round, 0, round.policies.size(), tokens.question, SIZE_MAX, choose));
    for (size_t i = 0; i < decodings.size(); ++i) {
      answers[round.policies[i]].cost = Cost(round, i, tokens.question.size());
    }
    LUKV_RETURN_IF_ERROR(DecodeAll(sample, decodings));
    for (size_t i = 0; i < decodings.size(); ++i) {
      PolicyAnswer& answer = answers[round.policies[i]];
      answer.text = std::move(decodings[i].text);
      if (!time_decode) continue;
      LUKV_ASSIGN_OR_RETURN(answer.cost.decode_s, TimeDecode(i, tokens.question.back(), decodings[i].position));
    }
    return absl::OkStatus();
  };
  LUKV_RETURN_IF_ERROR(ForEachRound(tokens.context, more, use));
  return answers;
}

}  // namespace lukv
