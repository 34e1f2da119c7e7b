#include "tools/eval/ruler.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "absl/strings/str_join.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "tools/eval/ruler_tasks.h"

namespace lukv {
namespace {

constexpr std::string_view kTaskNames[] = {"niah_single_1",
                                           "niah_single_2",
                                           "niah_single_3",
                                           "niah_multikey_1",
                                           "niah_multikey_2",
                                           "niah_multikey_3",
                                           "niah_multivalue",
                                           "niah_multiquery",
                                           "vt",
                                           "cwe",
                                           "fwe",
                                           "qa_1",
                                           "qa_2"};

// In the order of the first names.
constexpr NeedleTask kNeedleTasks[] = {
    {.haystack = NeedleHaystack::kNoise},
    {},
    {.value = NeedleKind::kUuid},
    {.keys = 4},
    {.haystack = NeedleHaystack::kNeedles},
    {.haystack = NeedleHaystack::kNeedles, .key = NeedleKind::kUuid, .value = NeedleKind::kUuid},
    {.values_per_key = 4},
    {.keys = 4, .queries = 4},
};

absl::StatusOr<SampleFamily> MakeFamily(const RulerRequest& request, const EvalText& text) {
  const std::string_view* const found = std::find(std::begin(kTaskNames), std::end(kTaskNames), request.task);
  if (found == std::end(kTaskNames)) {
    return absl::InvalidArgumentError(StrCat("no RULER task ", Quoted(request.task)));
  }
  Random random(request.seed, StrCat(request.task, "/", request.length, "/", request.index));
  const size_t task = static_cast<size_t>(found - std::begin(kTaskNames));
  if (task < std::size(kNeedleTasks)) return NeedleFamily(kNeedleTasks[task], text, random);
  if (request.task == "vt") return ChainFamily(text, random);
  if (request.task == "cwe") return CommonWordsFamily(text, request.length, random);
  if (request.task == "fwe") return FrequentWordsFamily(request.length, random);
  return PassageFamily(request.task == "qa_2", request.index, text, Random(request.seed, request.task), random);
}

absl::StatusOr<int32_t> TokensOf(const EvalSample& sample, const PromptFormat& format) {
  LUKV_ASSIGN_OR_RETURN(const SampleTokens tokens, format.Tokenize(sample));
  return static_cast<int32_t>(tokens.size()) + sample.max_new_tokens;
}

}  // namespace

std::span<const std::string_view> RulerTaskNames() { return kTaskNames; }

absl::StatusOr<EvalSample> MakeRulerSample(const RulerRequest& request, const EvalText& text,
                                           const PromptFormat& format) {
  LUKV_ASSIGN_OR_RETURN(const SampleFamily family, MakeFamily(request, text));
  EvalSample best = family.build(family.min_size);
  LUKV_ASSIGN_OR_RETURN(const int32_t least, TokensOf(best, format));
  if (least > request.length) {
    return absl::InvalidArgumentError(
        StrCat(request.task, " needs ", least, " tokens at least, the length is ", request.length));
  }
  // Doubles until it is too long, then halves the gap between what fits and what does not.
  int32_t fits = family.min_size;
  std::optional<int32_t> too_long;
  int32_t step = 16;
  while (fits < family.max_size && (!too_long.has_value() || *too_long - fits > 1)) {
    const int32_t size =
        too_long.has_value() ? fits + (*too_long - fits) / 2 : fits + std::min(step, family.max_size - fits);
    EvalSample sample = family.build(size);
    LUKV_ASSIGN_OR_RETURN(const int32_t tokens, TokensOf(sample, format));
    if (tokens <= request.length) {
      fits = size;
      best = std::move(sample);
      step *= 2;
    } else {
      too_long = size;
    }
  }
  return best;
}

}  // namespace lukv
