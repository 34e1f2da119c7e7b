#include "tools/eval/evaluation.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"
#include "tools/eval/longbench.h"
#include "tools/eval/nll.h"
#include "tools/eval/ruler.h"
#include "tools/eval/scoring.h"
#include "tools/eval/tasks.h"

namespace lukv {
namespace {

// Slots cost logits rows; more policies than this run in rounds.
constexpr int32_t kMostSlots = 128;
// What is left of a LongBench prompt at least; less says nothing.
constexpr int32_t kLeastPrompt = 64;

bool HasNll(const EvalCommand& command) {
  return std::find(command.tasks.begin(), command.tasks.end(), kNllTask) != command.tasks.end();
}

// Sums over samples, one for each policy.
class Sums {
 public:
  explicit Sums(const std::vector<EvalPolicy>& policies) : policies_(policies), sums_(policies.size()) {}

  void Add(size_t policy, double score, const PolicyCost& cost) {
    Sum& sum = sums_[policy];
    ++sum.n;
    sum.score += score;
    sum.ratio += cost.ratio;
    sum.full += cost.kv_bytes_full;
    sum.resident += cost.kv_bytes_resident;
    sum.prefill_s += cost.prefill_s;
    if (cost.decode_s.has_value()) sum.decode_s = *cost.decode_s;
  }

  EvalResult Result(size_t policy, const std::string& task, int32_t length) const {
    const Sum& sum = sums_[policy];
    const Policy& of = policies_[policy].policy;
    const bool fixed = !of.full && of.budget_kind == BudgetKind::kRatio;
    return {.task = task,
            .length = length,
            .policy = policies_[policy].name,
            .ratio = fixed ? of.ratio : sum.ratio / sum.n,
            .score = sum.score / sum.n,
            .samples = sum.n,
            .kv_bytes_full = sum.full / sum.n,
            .kv_bytes_resident = sum.resident / sum.n,
            .prefill_s = sum.prefill_s / sum.n,
            .decode_s = sum.decode_s,
            .kl = {},
            .top1 = {}};
  }

 private:
  struct Sum {
    int32_t n = 0;
    double score = 0, ratio = 0, prefill_s = 0, decode_s = 0;
    int64_t full = 0, resident = 0;
  };
  const std::vector<EvalPolicy>& policies_;
  std::vector<Sum> sums_;
};

}  // namespace

absl::StatusOr<RunnerOptions> EvalRunnerOptions(const ModelConfig& config, const EvalCommand& command) {
  const int32_t longest = *std::max_element(command.lengths.begin(), command.lengths.end());
  const int32_t text = longest + (HasNll(command) ? kNllTokens : 0);
  if (text > config.context_length) {
    return absl::InvalidArgumentError(
        StrCat("a length of ", longest, " needs ", text, " tokens, the model's context is ", config.context_length));
  }
  RunnerOptions options;
  options.max_context = text + kTimedSteps;
  options.n_slots = std::min(kMostSlots, static_cast<int32_t>(command.policies.size()));
  const KvGeometry geometry{
      .n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads, .page_tokens = options.page_tokens};
  const int64_t page_bytes = ModelRunner::PageBytes(config, options.kv_dtype, options.page_tokens);
  const int64_t for_one = int64_t{geometry.PagesFor(options.max_context)} * geometry.heads();
  const int64_t affordable = command.kv_memory / page_bytes;
  if (affordable < for_one) {
    return absl::InvalidArgumentError(StrCat("the full cache of ", options.max_context, " tokens takes ",
                                             for_one * page_bytes, " bytes, --kv-memory allows ", command.kv_memory));
  }
  options.n_pages = static_cast<uint32_t>(std::min({for_one * options.n_slots, affordable, int64_t{UINT32_MAX}}));
  return options;
}

Evaluation::Evaluation(const EvalCommand& command, const EvalText& text, const PromptFormat& format,
                       PolicyRunner& runner)
    : command_(command), text_(text), format_(format), runner_(runner) {}

absl::StatusOr<std::string> Evaluation::NllText() const {
  if (command_.text.empty()) return text_.chronicle;
  return ReadTextFile(command_.text);
}

absl::Status Evaluation::Check() const {
  for (const std::string& task : command_.tasks) {
    for (const int32_t length : command_.lengths) {
      switch (KindOf(task)) {
        case TaskKind::kRuler:
          LUKV_RETURN_IF_ERROR(
              MakeRulerSample({.task = task, .length = length, .seed = command_.seed}, text_, format_).status());
          break;
        case TaskKind::kLongBench: {
          LUKV_ASSIGN_OR_RETURN(const auto samples, ReadLongBench(command_.longbench, task, command_.samples));
          const int32_t least = samples.front().max_new_tokens + kLeastPrompt;
          if (length < least) {
            return absl::InvalidArgumentError(StrCat(task, " needs a length of ", least, ", it is ", length));
          }
          break;
        }
        case TaskKind::kNll: {
          LUKV_ASSIGN_OR_RETURN(const std::string text, NllText());
          LUKV_RETURN_IF_ERROR(NllSamples(format_.tokenizer(), text, length, 1).status());
          break;
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<EvalResult>> Evaluation::Run(const std::function<void(const Progress&)>& progress) {
  const int32_t per_task = command_.samples;
  Progress now{.total = static_cast<int32_t>(command_.lengths.size() * command_.tasks.size()) * per_task};
  progress(now);
  std::vector<EvalResult> results;
  int32_t tasks_done = 0;
  for (const int32_t length : command_.lengths) {
    for (const std::string& task : command_.tasks) {
      const auto sample_done = [&] {
        ++now.done;
        progress(now);
      };
      LUKV_RETURN_IF_ERROR(KindOf(task) == TaskKind::kNll ? RunNll(length, sample_done, results)
                                                          : RunTask(task, length, sample_done, results));
      now.done = ++tasks_done * per_task;  // A task may have fewer samples than were asked for.
    }
  }
  progress(now);
  return results;
}

absl::Status Evaluation::RunTask(const std::string& task, int32_t length, const std::function<void()>& sample_done,
                                 std::vector<EvalResult>& results) {
  std::vector<EvalSample> given;
  const bool is_ruler = KindOf(task) == TaskKind::kRuler;
  if (!is_ruler) {
    LUKV_ASSIGN_OR_RETURN(given, ReadLongBench(command_.longbench, task, command_.samples));
  }
  const int32_t n = is_ruler ? command_.samples : static_cast<int32_t>(given.size());
  Sums sums(runner_.policies());
  for (int32_t i = 0; i < n; ++i) {
    EvalSample sample;
    if (is_ruler) {
      LUKV_ASSIGN_OR_RETURN(
          sample, MakeRulerSample({.task = task, .length = length, .seed = command_.seed, .index = i}, text_, format_));
    } else {
      sample = std::move(given[static_cast<size_t>(i)]);
    }
    LUKV_ASSIGN_OR_RETURN(SampleTokens tokens, format_.Tokenize(sample));
    CutMiddle(static_cast<size_t>(length - sample.max_new_tokens), tokens);
    LUKV_ASSIGN_OR_RETURN(const std::vector<PolicyAnswer> answers, runner_.Answer(sample, tokens, i == 0));
    for (size_t p = 0; p < answers.size(); ++p) sums.Add(p, ScoreAnswer(sample, answers[p].text), answers[p].cost);
    sample_done();
  }
  for (size_t p = 0; p < runner_.policies().size(); ++p) results.push_back(sums.Result(p, task, length));
  return absl::OkStatus();
}

absl::Status Evaluation::RunNll(int32_t length, const std::function<void()>& sample_done,
                                std::vector<EvalResult>& results) {
  LUKV_ASSIGN_OR_RETURN(const std::string text, NllText());
  LUKV_ASSIGN_OR_RETURN(const std::vector<NllSample> samples,
                        NllSamples(format_.tokenizer(), text, length, command_.samples));
  Sums sums(runner_.policies());
  std::vector<double> kl(runner_.policies().size()), top1(runner_.policies().size());
  const double n = static_cast<double>(samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    LUKV_ASSIGN_OR_RETURN(const std::vector<NllOutcome> outcomes, MeasureNll(runner_, samples[i], i == 0));
    for (size_t p = 0; p < outcomes.size(); ++p) {
      sums.Add(p, outcomes[p].nll, outcomes[p].cost);
      kl[p] += outcomes[p].kl / n;
      top1[p] += outcomes[p].top1 / n;
    }
    sample_done();
  }
  for (size_t p = 0; p < runner_.policies().size(); ++p) {
    EvalResult result = sums.Result(p, kNllTask, length);
    result.kl = kl[p];
    result.top1 = top1[p];
    results.push_back(std::move(result));
  }
  return absl::OkStatus();
}

}  // namespace lukv
