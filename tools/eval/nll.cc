#include "tools/eval/nll.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

// ln of the sum of exponentials.
double LogSumExp(std::span<const float> logits) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  return highest + std::log(sum);
}

}  // namespace

double NegativeLogLikelihood(std::span<const float> logits, TokenId token) {
  return LogSumExp(logits) - logits[static_cast<size_t>(token)];
}

void ReferenceDistributions::Add(std::span<const float> logits) {
  const double log_sum = LogSumExp(logits);
  double negative_entropy = 0;
  for (const float logit : logits) {
    const double log_p = logit - log_sum;
    const double p = std::exp(log_p);
    probabilities_.push_back(static_cast<float>(p));
    negative_entropy += p * log_p;
  }
  negative_entropy_.push_back(negative_entropy);
  likeliest_.push_back(Likeliest(logits));
}

double ReferenceDistributions::Divergence(size_t place, std::span<const float> logits) const {
  const std::span<const float> p = std::span(probabilities_).subspan(place * logits.size(), logits.size());
  double expected_logit = 0, total = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    expected_logit += double{p[i]} * logits[i];
    total += p[i];
  }
  // Sum of p (ln p - ln q); below 0 only by rounding.
  return std::max(0.0, negative_entropy_[place] - expected_logit / total + LogSumExp(logits));
}

absl::StatusOr<std::vector<NllSample>> NllSamples(const Tokenizer& tokenizer, const std::string& text, int32_t length,
                                                  int32_t samples) {
  const TextSegment segment{.text = text};
  LUKV_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, tokenizer.Encode({&segment, 1}, false));
  const bool bos = tokenizer.adds_bos();
  const int64_t from_text = length - (bos ? 1 : 0);
  const int64_t spare = static_cast<int64_t>(tokens.size()) - from_text - kNllMore;
  if (from_text < 1 || spare < 0) {
    return absl::InvalidArgumentError(StrCat("nll of a context of ", length, " tokens needs a text of ",
                                             from_text + kNllMore, ", this one has ", tokens.size(),
                                             " (--text names another)"));
  }
  const int64_t n = std::min<int64_t>(samples, spare + 1);
  std::vector<NllSample> windows;
  for (int64_t i = 0; i < n; ++i) {
    const auto begin = tokens.begin() + (n > 1 ? spare * i / (n - 1) : 0);
    NllSample& window = windows.emplace_back();
    if (bos) window.context.push_back(tokenizer.bos());
    window.context.insert(window.context.end(), begin, begin + from_text);
    window.continuation.assign(begin + from_text, begin + from_text + kNllMore);
  }
  return windows;
}

absl::StatusOr<std::vector<NllOutcome>> MeasureNll(PolicyRunner& runner, const NllSample& sample, bool time_decode) {
  LUKV_CHECK(runner.policies().front().policy.full);
  const std::span<const TokenId> question(sample.continuation.data(), kNllTokens);
  std::vector<NllOutcome> outcomes(runner.policies().size());
  ReferenceDistributions reference;
  const auto use = [&](const PolicyRound& round) -> absl::Status {
    const auto measure = [&](size_t slot, size_t token, std::span<const float> logits) {
      NllOutcome& outcome = outcomes[round.policies[slot]];
      if (round.policies[slot] == 0) reference.Add(logits);
      outcome.nll += NegativeLogLikelihood(logits, sample.continuation[token + 1]) / kNllTokens;
      outcome.kl += reference.Divergence(token, logits) / kNllTokens;
      outcome.top1 += (reference.likeliest(token) == Likeliest(logits) ? 1.0 : 0.0) / kNllTokens;
    };
    // The full cache, first of all policies, is asked before the others.
    const size_t alone = round.policies.front() == 0 ? 1 : 0;
    LUKV_RETURN_IF_ERROR(runner.Ask(round, 0, alone, question, 0, measure));
    LUKV_RETURN_IF_ERROR(runner.Ask(round, alone, round.policies.size(), question, 0, measure));
    for (size_t i = 0; i < round.policies.size(); ++i) {
      PolicyCost& cost = outcomes[round.policies[i]].cost;
      cost = runner.Cost(round, i, question.size());
      if (!time_decode) continue;
      LUKV_ASSIGN_OR_RETURN(cost.decode_s,
                            runner.TimeDecode(i, sample.continuation.back(), round.context_tokens + kNllTokens));
    }
    return absl::OkStatus();
  };
  LUKV_RETURN_IF_ERROR(runner.ForEachRound(sample.context, kNllTokens + kTimedSteps, use));
  return outcomes;
}

}  // namespace lukv
