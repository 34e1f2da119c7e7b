#include "engine/evict/policy.h"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

constexpr const char* kScorers[] = {"expected_attention", "snapkv", "keydiff", "knorm", "streaming_llm", "random"};
constexpr const char* kAllocators[] = {"uniform", "pyramidkv", "adakv", "lukv"};
constexpr const char* kPoolings[] = {"max", "average"};
constexpr char kFull[] = "full";
constexpr char kTokensUnit[] = "tokens";
constexpr char kBytesUnit[] = "bytes";

constexpr int32_t kSnapKvWindow = 32;

absl::Status Refuse(std::string_view what, std::string_view got, std::string_view allowed) {
  return absl::InvalidArgumentError(StrCat("policy: ", what, " is ", Quoted(got), ", allowed is ", allowed));
}

template <typename Enum, size_t kN>
absl::StatusOr<Enum> FromName(std::string_view what, std::string_view name, const char* const (&names)[kN]) {
  for (size_t i = 0; i < kN; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
  }
  return Refuse(what, name, absl::StrJoin(names, ", "));
}

// The whole text as a number.
template <typename T>
bool ParseNumber(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// The shortest text that reads back as the same number.
template <typename T>
std::string NumberText(T value) {
  char text[32];
  return std::string(text, std::to_chars(text, std::end(text), value).ptr);
}

bool Consume(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

absl::Status ParseBudget(std::string_view text, Policy& policy) {
  const std::string_view whole = text;
  const bool tokens = Consume(text, kTokensUnit);
  if (tokens || Consume(text, kBytesUnit)) {
    policy.budget_kind = tokens ? BudgetKind::kTokens : BudgetKind::kBytes;
    if (ParseNumber(text, policy.amount)) return absl::OkStatus();
  } else {
    policy.budget_kind = BudgetKind::kRatio;
    if (ParseNumber(text, policy.ratio)) return absl::OkStatus();
  }
  return Refuse("the budget after @", whole, "a ratio like 0.8, or like 512tokens, or like 8388608bytes");
}

template <typename T>
absl::Status ParseOption(std::string_view name, std::string_view text, T& value) {
  return ParseNumber(text, value) ? absl::OkStatus() : Refuse(StrCat("option ", name), text, "a number");
}

// An option belongs to what uses it: one that would change nothing is refused.
absl::Status SetOption(std::string_view name, std::string_view text, Policy& policy) {
  ScorerSettings& scorer = policy.scorer;
  if (name == "sink") return ParseOption(name, text, policy.sink);
  if (name == "window") return ParseOption(name, text, policy.window);
  if (name == "floors") {
    if (text != "0" && text != "1") return Refuse("option floors", text, "0 or 1");
    policy.floors = text == "1";
    return absl::OkStatus();
  }
  const auto of_scorer = [&](Scorer owner) { return scorer.scorer == owner; };
  if (name == "epsilon" && of_scorer(Scorer::kExpectedAttention)) return ParseOption(name, text, scorer.epsilon);
  if (name == "future" && of_scorer(Scorer::kExpectedAttention)) return ParseOption(name, text, scorer.future);
  if (name == "queries" && of_scorer(Scorer::kSnapKv)) return ParseOption(name, text, scorer.queries);
  if (name == "kernel" && of_scorer(Scorer::kSnapKv)) return ParseOption(name, text, scorer.kernel);
  if (name == "pool" && of_scorer(Scorer::kSnapKv)) {
    LUKV_ASSIGN_OR_RETURN(scorer.pooling, FromName<Pooling>("option pool", text, kPoolings));
    return absl::OkStatus();
  }
  if (name == "seed" && of_scorer(Scorer::kRandom)) return ParseOption(name, text, scorer.seed);
  if (name == "alpha" && policy.allocator == Allocator::kAdaKv) return ParseOption(name, text, policy.alpha);
  if (name == "beta" && policy.allocator == Allocator::kPyramidKv) return ParseOption(name, text, policy.beta);
  return Refuse("an option", name,
                "sink, window, floors; epsilon, future (expected_attention); queries, kernel, pool (snapkv); seed "
                "(random); alpha (adakv); beta (pyramidkv)");
}

absl::Status ParseOptions(std::string_view text, Policy& policy) {
  std::set<std::string_view> seen;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view option = text.substr(0, comma);
    const size_t equals = option.find('=');
    if (equals == std::string_view::npos) return Refuse("an option", option, "NAME=VALUE");
    const std::string_view name = option.substr(0, equals);
    if (!seen.insert(name).second) return Refuse("an option", name, "each option once");
    LUKV_RETURN_IF_ERROR(SetOption(name, option.substr(equals + 1), policy));
    if (comma == std::string_view::npos) return absl::OkStatus();
    text.remove_prefix(comma + 1);
  }
}

template <typename T>
void AddOption(const char* name, T value, T usual, std::vector<std::string>& options) {
  if (value != usual) options.push_back(StrCat(name, "=", NumberText(value)));
}

// Options of the scorer and its protection that are not at the scorer's defaults.
std::vector<std::string> ScorerOptions(const ScorerSettings& scorer, int32_t sink, int32_t window) {
  const Policy usual = DefaultPolicy(scorer.scorer);
  std::vector<std::string> options;
  AddOption("sink", sink, usual.sink, options);
  AddOption("window", window, usual.window, options);
  AddOption("epsilon", scorer.epsilon, usual.scorer.epsilon, options);
  AddOption("future", scorer.future, usual.scorer.future, options);
  AddOption("queries", scorer.queries, usual.scorer.queries, options);
  AddOption("kernel", scorer.kernel, usual.scorer.kernel, options);
  if (scorer.pooling != usual.scorer.pooling) {
    options.push_back(StrCat("pool=", kPoolings[static_cast<size_t>(scorer.pooling)]));
  }
  AddOption("seed", scorer.seed, usual.scorer.seed, options);
  return options;
}

std::string Joined(const std::vector<std::string>& options) {
  return options.empty() ? "" : StrCat(":", absl::StrJoin(options, ","));
}

}  // namespace

const char* ScorerName(Scorer scorer) { return kScorers[static_cast<size_t>(scorer)]; }
const char* AllocatorName(Allocator allocator) { return kAllocators[static_cast<size_t>(allocator)]; }

Policy DefaultPolicy(Scorer scorer) {
  Policy policy;
  policy.full = false;
  policy.scorer.scorer = scorer;
  if (scorer == Scorer::kSnapKv) policy.window = kSnapKvWindow;
  return policy;
}

std::string ScorerLabel(const ScorerSettings& scorer, int32_t sink, int32_t window) {
  return StrCat(ScorerName(scorer.scorer), Joined(ScorerOptions(scorer, sink, window)));
}

absl::Status ValidatePolicy(const Policy& policy) {
  if (policy.full) return absl::OkStatus();
  const ScorerSettings& scorer = policy.scorer;
  const auto check = [](bool ok, std::string_view what, const std::string& got, std::string_view allowed) {
    return ok ? absl::OkStatus() : Refuse(what, got, allowed);
  };
  const auto whole = [&](std::string_view what, int64_t value, int64_t low, int64_t high) {
    return check(value >= low && value <= high, what, NumberText(value), StrCat(low, " to ", high));
  };
  constexpr int32_t kMost = 1 << 20;  // More than any context; sums of two stay far from overflow.
  if (policy.budget_kind == BudgetKind::kRatio) {
    LUKV_RETURN_IF_ERROR(check(policy.ratio >= 0 && policy.ratio < 1, "the ratio", NumberText(policy.ratio),
                               "0 or more and less than 1: the part that is removed"));
  } else {
    LUKV_RETURN_IF_ERROR(check(policy.amount >= 1, "the budget", NumberText(policy.amount), "1 or more"));
  }
  LUKV_RETURN_IF_ERROR(whole("option sink", policy.sink, 0, kMost));
  LUKV_RETURN_IF_ERROR(whole("option window", policy.window, 0, kMost));
  LUKV_RETURN_IF_ERROR(check(scorer.epsilon >= 0 && std::isfinite(scorer.epsilon), "option epsilon",
                             NumberText(scorer.epsilon), "0 or more"));
  LUKV_RETURN_IF_ERROR(whole("option future", scorer.future, 1, 1 << 16));
  LUKV_RETURN_IF_ERROR(whole("option queries", scorer.queries, 1, 1024));
  LUKV_RETURN_IF_ERROR(check(scorer.kernel >= 1 && scorer.kernel <= 1023 && scorer.kernel % 2 == 1, "option kernel",
                             NumberText(scorer.kernel), "an odd number from 1 to 1023"));
  LUKV_RETURN_IF_ERROR(
      check(policy.alpha >= 0 && policy.alpha <= 1, "option alpha", NumberText(policy.alpha), "0 to 1"));
  return whole("option beta", policy.beta, 1, kMost);
}

absl::StatusOr<Policy> ParsePolicy(std::string_view name) {
  if (name == kFull) return Policy();
  const std::string_view form = "full or ALLOCATOR+SCORER@RATIO[:OPTION=VALUE,...], like lukv+expected_attention@0.8";
  const size_t plus = name.find('+');
  if (plus == std::string_view::npos) return Refuse("the name", name, form);
  const size_t at = name.find('@', plus);
  if (at == std::string_view::npos) return Refuse("the name", name, form);
  const size_t colon = name.find(':', at);
  LUKV_ASSIGN_OR_RETURN(const Allocator allocator,
                        FromName<Allocator>("the allocator", name.substr(0, plus), kAllocators));
  LUKV_ASSIGN_OR_RETURN(const Scorer scorer,
                        FromName<Scorer>("the scorer", name.substr(plus + 1, at - plus - 1), kScorers));
  Policy policy = DefaultPolicy(scorer);
  policy.allocator = allocator;
  const size_t budget_end = colon == std::string_view::npos ? name.size() : colon;
  LUKV_RETURN_IF_ERROR(ParseBudget(name.substr(at + 1, budget_end - at - 1), policy));
  if (colon != std::string_view::npos) LUKV_RETURN_IF_ERROR(ParseOptions(name.substr(colon + 1), policy));
  LUKV_RETURN_IF_ERROR(ValidatePolicy(policy));
  return policy;
}

std::string PolicyName(const Policy& policy) {
  if (policy.full) return kFull;
  std::string budget;
  switch (policy.budget_kind) {
    case BudgetKind::kRatio:
      budget = NumberText(policy.ratio);
      break;
    case BudgetKind::kTokens:
      budget = StrCat(policy.amount, kTokensUnit);
      break;
    case BudgetKind::kBytes:
      budget = StrCat(policy.amount, kBytesUnit);
      break;
  }
  const Policy usual = DefaultPolicy(policy.scorer.scorer);
  std::vector<std::string> options = ScorerOptions(policy.scorer, policy.sink, policy.window);
  if (policy.floors) options.push_back("floors=1");
  AddOption("alpha", policy.alpha, usual.alpha, options);
  AddOption("beta", policy.beta, usual.beta, options);
  return StrCat(AllocatorName(policy.allocator), "+", ScorerName(policy.scorer.scorer), "@", budget, Joined(options));
}

}  // namespace lukv
