#include "tools/eval/evaluation.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "tools/eval/longbench.h"
#include "tools/eval/ruler.h"
#include "tools/eval/scoring.h"
#include "tools/eval/tasks.h"

namespace lukv {
namespace {

class Evaluation {
 public:
  Evaluation(EvalModel& model, const EvaluationRequest& request, const EvalText& text, const PromptFormat& format,
             const std::function<void(const Progress&)>& progress)
      : model_(model), request_(request), text_(text), format_(format), report_(progress) {}

  absl::StatusOr<std::vector<EvalResult>> Run() {
    progress_.total = static_cast<int32_t>(request_.tasks.size() * request_.lengths.size()) * request_.samples;
    report_(progress_);
    for (const int32_t length : request_.lengths) {
      for (const std::string& task : request_.tasks) {
        results_.clear();
        if (KindOf(task) == TaskKind::kNll) {
          LUKV_RETURN_IF_ERROR(RunNll(length));
        } else {
          LUKV_RETURN_IF_ERROR(RunTask(task, length));
        }
        for (EvalResult& result : results_) {
          Average(result);
          result.task = task;
          result.length = length;
          all_.push_back(std::move(result));
        }
      }
    }
    return std::move(all_);
  }

 private:
  absl::StatusOr<std::vector<EvalSample>> Samples(const std::string& task, int32_t length) const {
    if (KindOf(task) == TaskKind::kLongBench) return ReadLongBench(request_.longbench, task, request_.samples);
    std::vector<EvalSample> samples;
    for (int32_t i = 0; i < request_.samples; ++i) {
      LUKV_ASSIGN_OR_RETURN(
          EvalSample sample,
          MakeRulerSample({.task = task, .length = length, .seed = request_.seed, .index = i}, text_, format_));
      samples.push_back(std::move(sample));
    }
    return samples;
  }

  absl::Status RunTask(const std::string& task, int32_t length) {
    LUKV_ASSIGN_OR_RETURN(const std::vector<EvalSample> samples, Samples(task, length));
    for (const EvalSample& sample : samples) {
      LUKV_ASSIGN_OR_RETURN(SampleTokens tokens, format_.Tokenize(sample));
      CutMiddle(static_cast<size_t>(std::max(2, length - sample.max_new_tokens)), tokens);
      if (tokens.context.empty() || tokens.question.empty()) {
        return absl::InvalidArgumentError(
            absl::StrCat(task, ": ", length, " tokens leave no room for a context and a question"));
      }
      // Decoding each policy by itself takes its time: once is enough.
      const bool measure = &sample == &samples.front();
      LUKV_ASSIGN_OR_RETURN(const std::vector<EvalAnswer> answers,
                            model_.Answer(sample, tokens, request_.policies, measure));
      for (size_t p = 0; p < answers.size(); ++p) Add(p, ScoreAnswer(sample, answers[p].text), answers[p].cost);
      Advance();
    }
    // A LongBench file may hold fewer samples than were asked for.
    progress_.total -= request_.samples - static_cast<int32_t>(samples.size());
    return absl::OkStatus();
  }

  absl::Status RunNll(int32_t length) {
    const TextSegment segment{.text = request_.nll_text};
    LUKV_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                          model_.tokenizer().Encode({&segment, 1}, model_.tokenizer().adds_bos()));
    const size_t needed = static_cast<size_t>(length) + kContinuation;
    if (ids.size() < needed) {
      return absl::InvalidArgumentError(absl::StrCat("nll: the text has ", ids.size(), " tokens, a context of ", length,
                                                     " and its continuation take ", needed));
    }
    const size_t spare = ids.size() - needed;
    for (int32_t i = 0; i < request_.samples; ++i) {
      // Windows spread evenly over the text.
      const size_t begin =
          request_.samples > 1 ? spare * static_cast<size_t>(i) / static_cast<size_t>(request_.samples - 1) : spare / 2;
      const auto at = ids.begin() + static_cast<std::ptrdiff_t>(begin);
      const SampleTokens tokens{.context = {at, at + length}, .question = {at + length, at + length + kContinuation}};
      LUKV_ASSIGN_OR_RETURN(const std::vector<EvalLikelihood> likelihoods,
                            model_.Likelihood(tokens, request_.policies));
      for (size_t p = 0; p < likelihoods.size(); ++p) {
        EvalResult& result = Add(p, likelihoods[p].nll, likelihoods[p].cost);
        result.kl = result.kl.value_or(0) + likelihoods[p].kl;
        result.top1 = result.top1.value_or(0) + likelihoods[p].top1;
      }
      Advance();
    }
    return absl::OkStatus();
  }

  EvalResult& Add(size_t policy, double score, const EvalCost& cost) {
    if (results_.empty()) {
      for (const Policy& p : request_.policies) results_.push_back({.policy = PolicyName(p)});
    }
    EvalResult& result = results_[policy];
    ++result.samples;
    result.ratio = cost.ratio;
    result.score += score;
    result.kv_bytes_full += cost.kv_bytes_full;
    result.kv_bytes_resident += cost.kv_bytes_resident;
    result.prefill_s += cost.prefill_s;
    result.decode_s = std::max(result.decode_s, cost.decode_s);  // Measured on one sample.
    return result;
  }

  static void Average(EvalResult& result) {
    const double n = result.samples;
    result.score /= n;
    result.kv_bytes_full /= result.samples;
    result.kv_bytes_resident /= result.samples;
    result.prefill_s /= n;
    if (result.kl.has_value()) *result.kl /= n;
    if (result.top1.has_value()) *result.top1 /= n;
  }

  void Advance() {
    ++progress_.done;
    report_(progress_);
  }

  EvalModel& model_;
  const EvaluationRequest& request_;
  const EvalText& text_;
  const PromptFormat& format_;
  const std::function<void(const Progress&)>& report_;
  Progress progress_;
  std::vector<EvalResult> results_;  // Of the running task and length, one per policy; sums.
  std::vector<EvalResult> all_;
};

}  // namespace

int32_t LongestSample(const EvaluationRequest& request) {
  int32_t longest = *std::max_element(request.lengths.begin(), request.lengths.end());
  const bool nll = std::find(request.tasks.begin(), request.tasks.end(), kNllTask) != request.tasks.end();
  return nll ? longest + kContinuation + 1 : longest;  // One more to measure a step.
}

absl::StatusOr<std::vector<Policy>> ParsePolicies(const std::vector<std::string>& names,
                                                  const std::vector<double>& ratios) {
  std::vector<Policy> policies;
  std::set<std::string> seen;
  const auto add = [&](const std::string& name) -> absl::Status {
    LUKV_ASSIGN_OR_RETURN(const Policy policy, ParsePolicy(name));
    if (seen.insert(PolicyName(policy)).second) policies.push_back(policy);
    return absl::OkStatus();
  };
  for (const std::string& name : names) {
    if (name == "full" || name.find('@') != std::string::npos) {
      LUKV_RETURN_IF_ERROR(add(name));
      continue;
    }
    // The ratio stands before the options.
    const size_t options = std::min(name.find(':'), name.size());
    for (const double ratio : ratios) {
      LUKV_RETURN_IF_ERROR(add(StrCat(name.substr(0, options), "@", ratio, name.substr(options))));
    }
  }
  if (policies.empty()) return absl::InvalidArgumentError("no policy is named");
  return policies;
}

absl::StatusOr<std::vector<EvalResult>> Evaluate(EvalModel& model, const EvaluationRequest& request,
                                                 const EvalText& text,
                                                 const std::function<void(const Progress&)>& progress) {
  LUKV_RETURN_IF_ERROR(model.CheckPolicies(request.policies));
  LUKV_ASSIGN_OR_RETURN(const PromptFormat format, PromptFormat::Make(request.style, model.tokenizer()));
  return Evaluation(model, request, text, format, progress).Run();
}

}  // namespace lukv
