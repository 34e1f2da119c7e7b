#include "tools/bench/op_timer.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Median of a few.
absl::StatusOr<double> SynchronizeSeconds(Backend& backend) {
  std::array<double, 51> seconds{};
  LUKV_RETURN_IF_ERROR(backend.Synchronize());
  for (double& s : seconds) {
    const auto start = Clock::now();
    LUKV_RETURN_IF_ERROR(backend.Synchronize());
    s = SecondsSince(start);
  }
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace

absl::Status OpTimer::Start(OpLengths lengths) {
  LUKV_ASSIGN_OR_RETURN(synchronize_s_, SynchronizeSeconds(*inner_));
  lengths_ = std::move(lengths);
  record_ = {};
  start_ = Clock::now();
  recording_ = true;
  return absl::OkStatus();
}

OpRecord OpTimer::Stop() {
  recording_ = false;
  return std::move(record_);
}

absl::Status OpTimer::Run(const std::string& name, absl::FunctionRef<OpCost()> cost,
                          absl::FunctionRef<absl::Status()> op) {
  if (!recording_) return op();
  LUKV_RETURN_IF_ERROR(inner_->Synchronize());
  const auto start = Clock::now();
  LUKV_RETURN_IF_ERROR(op());
  LUKV_RETURN_IF_ERROR(inner_->Synchronize());
  const double seconds = std::max(0.0, SecondsSince(start) - synchronize_s_);
  record_.events.push_back(
      {.op = name, .start = std::chrono::duration<double>(start - start_).count(), .seconds = seconds});
  std::vector<OpSum>& sums = record_.sums;
  auto sum = std::find_if(sums.begin(), sums.end(), [&](const OpSum& s) { return s.op == name; });
  if (sum == sums.end()) sum = sums.insert(sums.end(), {.op = name});
  ++sum->calls;
  sum->seconds += seconds;
  sum->cost += cost();
  return absl::OkStatus();
}

absl::Status OpTimer::DoLinear(const LinearArgs& args) {
  // Made only when it is needed: the run without recording must not be slowed.
  const std::string name =
      recording_ ? absl::StrCat("Linear ", args.weight->out_features(), "x", args.weight->in_features()) : "";
  return Run(
      name, [&] { return CostOf(args); }, [&] { return inner_->Linear(args); });
}

absl::Status OpTimer::DoPagedAttention(const PagedAttentionArgs& args) {
  return Run(
      "PagedAttention", [&] { return CostOf(args, lengths_.step(args.layer)); },
      [&] { return inner_->PagedAttention(args); });
}

absl::Status OpTimer::DoPagedAttentionWeights(const PagedAttentionWeightsArgs& args) {
  return Run(
      "PagedAttentionWeights", [&] { return CostOf(args, lengths_.step(args.layer)); },
      [&] { return inner_->PagedAttentionWeights(args); });
}

absl::Status OpTimer::DoCompact(const CompactArgs& args) {
  return Run(
      "Compact", [&] { return CostOf(args, lengths_.kept(args.slot, args.layer)); },
      [&] { return inner_->Compact(args); });
}

absl::Status OpTimer::DoSelectTop(const SelectTopArgs& args) {
  return Run(
      "SelectTop", [&] { return CostOf(args, lengths_.selected); }, [&] { return inner_->SelectTop(args); });
}

absl::Status OpTimer::DoEmbed(const EmbedArgs& args) {
  return Run(
      "Embed", [&] { return CostOf(args); }, [&] { return inner_->Embed(args); });
}

absl::Status OpTimer::DoRmsNorm(const RmsNormArgs& args) {
  return Run(
      "RmsNorm", [&] { return CostOf(args); }, [&] { return inner_->RmsNorm(args); });
}

absl::Status OpTimer::DoRopeStage(const RopeStageArgs& args) {
  return Run(
      "RopeStage", [&] { return CostOf(args); }, [&] { return inner_->RopeStage(args); });
}

absl::Status OpTimer::DoPrefillAttention(const PrefillAttentionArgs& args) {
  return Run(
      "PrefillAttention", [&] { return CostOf(args); }, [&] { return inner_->PrefillAttention(args); });
}

absl::Status OpTimer::DoAppend(const AppendArgs& args) {
  return Run(
      "Append", [&] { return CostOf(args); }, [&] { return inner_->Append(args); });
}

absl::Status OpTimer::DoCopyPages(const CopyPagesArgs& args) {
  return Run(
      "CopyPages", [&] { return CostOf(args); }, [&] { return inner_->CopyPages(args); });
}

absl::Status OpTimer::DoSiluMul(const SiluMulArgs& args) {
  return Run(
      "SiluMul", [&] { return CostOf(args); }, [&] { return inner_->SiluMul(args); });
}

absl::Status OpTimer::DoGatherRows(const GatherRowsArgs& args) {
  return Run(
      "GatherRows", [&] { return CostOf(args); }, [&] { return inner_->GatherRows(args); });
}

absl::Status OpTimer::DoScatter(const ScatterArgs& args) {
  return Run(
      "Scatter", [&] { return CostOf(args); }, [&] { return inner_->Scatter(args); });
}

absl::Status OpTimer::DoSample(const SampleArgs& args) {
  return Run(
      "Sample", [&] { return CostOf(args); }, [&] { return inner_->Sample(args); });
}

absl::Status OpTimer::DoQueryMoments(const QueryMomentsArgs& args) {
  return Run(
      "QueryMoments", [&] { return CostOf(args); }, [&] { return inner_->QueryMoments(args); });
}

absl::Status OpTimer::DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) {
  return Run(
      "ScoreExpectedAttention", [&] { return CostOf(args); }, [&] { return inner_->ScoreExpectedAttention(args); });
}

absl::Status OpTimer::DoScoreSnapKv(const ScoreSnapKvArgs& args) {
  return Run(
      "ScoreSnapKv", [&] { return CostOf(args); }, [&] { return inner_->ScoreSnapKv(args); });
}

absl::Status OpTimer::DoScoreKeyDiff(const ScoreKeyDiffArgs& args) {
  return Run(
      "ScoreKeyDiff", [&] { return CostOf(args); }, [&] { return inner_->ScoreKeyDiff(args); });
}

absl::Status OpTimer::DoScoreKeyNorm(const ScoreKeyNormArgs& args) {
  return Run(
      "ScoreKeyNorm", [&] { return CostOf(args); }, [&] { return inner_->ScoreKeyNorm(args); });
}

absl::Status OpTimer::DoAdaptiveBudgets(const AdaptiveBudgetsArgs& args) {
  return Run(
      "AdaptiveBudgets", [&] { return CostOf(args); }, [&] { return inner_->AdaptiveBudgets(args); });
}

}  // namespace lukv
