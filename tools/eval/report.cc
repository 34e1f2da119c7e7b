#include "tools/eval/report.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>

#include "absl/strings/str_format.h"
#include "base/str_cat.h"
#include "tools/eval/tasks.h"

namespace lukv {
namespace {

constexpr char kFull[] = "full";

bool IsNll(const EvalResult& result) { return KindOf(result.task) == TaskKind::kNll; }

// Each value once, in the order of its first appearance.
template <typename T>
std::vector<T> Distinct(std::span<const EvalResult> results, T EvalResult::*member) {
  std::vector<T> values;
  for (const EvalResult& result : results) {
    if (std::find(values.begin(), values.end(), result.*member) == values.end()) values.push_back(result.*member);
  }
  return values;
}

template <typename Keep>
std::vector<EvalResult> Only(std::span<const EvalResult> results, const Keep& keep) {
  std::vector<EvalResult> kept;
  for (const EvalResult& result : results) {
    if (keep(result)) kept.push_back(result);
  }
  return kept;
}

const EvalResult* Find(std::span<const EvalResult> results, const std::string& task, int32_t length,
                       const std::string& policy) {
  for (const EvalResult& result : results) {
    if (result.task == task && result.length == length && result.policy == policy) return &result;
  }
  return nullptr;
}

// A Markdown table whose columns also line up as plain text.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  std::string Markdown() const {
    std::vector<size_t> widths(rows_.front().size(), 3);
    for (const auto& row : rows_) {
      for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
    }
    std::string text;
    for (size_t r = 0; r < rows_.size(); ++r) {
      for (size_t c = 0; c < widths.size(); ++c) {
        const std::string padding(widths[c] - rows_[r][c].size(), ' ');
        text += c == 0 ? StrCat("| ", rows_[r][c], padding) : StrCat(" | ", padding, rows_[r][c]);
      }
      text += " |\n";
      if (r > 0) continue;
      for (size_t c = 0; c < widths.size(); ++c) {
        text +=
            c == 0 ? StrCat("|", std::string(widths[c] + 2, '-')) : StrCat("|", std::string(widths[c] + 1, '-'), ":");
      }
      text += "|\n";
    }
    return text;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Means of what one policy found.
struct Means {
  std::optional<double> score;  // Over tasks that count.
  double kept = 0;              // Resident of full bytes.
  double resident = 0;          // Bytes
  double decode_s = 0;
};

Means MeansOf(std::span<const EvalResult> all, std::span<const EvalResult> of_policy) {
  Means means;
  double score = 0, full = 0, counted = 0;
  for (const EvalResult& result : of_policy) {
    means.resident += static_cast<double>(result.kv_bytes_resident);
    full += static_cast<double>(result.kv_bytes_full);
    means.decode_s += result.decode_s;
    if (IsNll(result) || !Counts(all, result.task, result.length)) continue;
    score += result.score;
    counted += 1;
  }
  if (counted > 0) means.score = score / counted;
  const double n = static_cast<double>(of_policy.size());
  means.kept = full > 0 ? means.resident / full : 0;
  means.resident /= n;
  means.decode_s /= n;
  return means;
}

std::string PercentOf(double value, double full) {
  return full > 0 ? absl::StrFormat("%.0f%%", 100 * value / full) : std::string("-");
}

std::string ScoreCell(double value, double full, bool is_full) {
  return is_full ? absl::StrFormat("%.1f", value)
                 : StrCat(absl::StrFormat("%.1f", value), " (", PercentOf(value, full), ")");
}

std::string KeptCell(const Means& means) {
  return absl::StrFormat("%.1f MiB (%.1f%%)", means.resident / (1 << 20), 100 * means.kept);
}

std::string SampleCount(int32_t n) { return StrCat(n, n == 1 ? " sample" : " samples"); }

// Policy x task at one length.
std::string LengthTable(std::span<const EvalResult> all, int32_t length) {
  const std::vector<EvalResult> results =
      Only(all, [&](const EvalResult& r) { return r.length == length && !IsNll(r); });
  if (results.empty()) return "";
  const std::vector<std::string> tasks = Distinct(std::span(results), &EvalResult::task);
  std::vector<std::string> header = {"policy"};
  bool marked = false;
  for (const std::string& task : tasks) {
    const bool counts = Counts(results, task, length);
    marked = marked || !counts;
    header.push_back(counts ? task : StrCat(task, "*"));
  }
  header.insert(header.end(), {"mean", "KV kept", "ms/token"});
  Table table(std::move(header));
  std::optional<double> full_mean;
  for (const std::string& policy : Distinct(std::span(results), &EvalResult::policy)) {
    const bool is_full = policy == kFull;
    std::vector<std::string> row = {policy};
    for (const std::string& task : tasks) {
      const EvalResult* const result = Find(results, task, length, policy);
      const EvalResult* const full = Find(results, task, length, kFull);
      row.push_back(result == nullptr ? "" : ScoreCell(result->score, full == nullptr ? 0 : full->score, is_full));
    }
    const Means means = MeansOf(all, Only(results, [&](const EvalResult& r) { return r.policy == policy; }));
    if (is_full) full_mean = means.score;
    row.push_back(means.score.has_value() ? ScoreCell(*means.score, full_mean.value_or(0), is_full) : "-");
    row.push_back(KeptCell(means));
    row.push_back(absl::StrFormat("%.2f", 1e3 * means.decode_s));
    table.Add(std::move(row));
  }
  std::string text =
      StrCat("### ", length, " tokens, ", SampleCount(results.front().samples), " a task\n\n", table.Markdown());
  if (marked) {
    text += StrCat("\n\\* The full cache scores below ", kLeastFullScore,
                   " here: the task says nothing of eviction and is not in the mean.\n");
  }
  return text;
}

std::string NllTable(std::span<const EvalResult> all) {
  const std::vector<EvalResult> results = Only(all, IsNll);
  if (results.empty()) return "";
  Table table({"policy", "length", "nll", "loss over full", "KL", "top-1 as full", "KV kept", "ms/token"});
  for (const EvalResult& result : results) {
    const EvalResult* const full = Find(results, result.task, result.length, kFull);
    const Means means = MeansOf(results, {&result, 1});
    table.Add({result.policy, StrCat(result.length), absl::StrFormat("%.4f", result.score),
               full == nullptr ? "-" : absl::StrFormat("%+.4f", result.score - full->score),
               absl::StrFormat("%.4f", result.kl.value_or(0)), absl::StrFormat("%.1f%%", 100 * result.top1.value_or(0)),
               KeptCell(means), absl::StrFormat("%.2f", 1e3 * result.decode_s)});
  }
  return StrCat("### Continuation of a long text, ", SampleCount(results.front().samples),
                " (nats per token, lower is better)\n\n", table.Markdown());
}

// Mean over tasks and lengths that count: policy x ratio.
std::string SummaryTable(std::span<const EvalResult> all) {
  const std::vector<EvalResult> results =
      Only(all, [&](const EvalResult& r) { return !IsNll(r) && Counts(all, r.task, r.length); });
  std::vector<double> ratios;
  for (const EvalResult& r : results) {
    if (r.policy != kFull && std::find(ratios.begin(), ratios.end(), r.ratio) == ratios.end())
      ratios.push_back(r.ratio);
  }
  if (ratios.empty() || (ratios.size() == 1 && Distinct(std::span(results), &EvalResult::length).size() == 1))
    return "";
  std::sort(ratios.begin(), ratios.end());
  std::vector<std::string> header = {"policy"};
  for (const double ratio : ratios) header.push_back(absl::StrFormat("%.4g", ratio));
  Table table(std::move(header));
  std::vector<std::string> names;
  std::map<std::pair<std::string, double>, std::pair<double, int32_t>> sums;
  for (const EvalResult& r : results) {
    const std::string name = WithoutRatio(r);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    auto& [sum, n] = sums[{name, r.policy == kFull ? -1 : r.ratio}];
    sum += r.score;
    ++n;
  }
  for (const std::string& name : names) {
    std::vector<std::string> row = {name};
    for (const double ratio : ratios) {
      const auto it = sums.find({name, name == kFull ? -1 : ratio});
      row.push_back(it == sums.end() ? "" : absl::StrFormat("%.1f", it->second.first / it->second.second));
    }
    table.Add(std::move(row));
  }
  return StrCat("### Mean score by compression ratio, over all tasks and lengths that count\n\n", table.Markdown());
}

}  // namespace

std::string ResultsJson(std::span<const EvalResult> results) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const EvalResult& r : results) {
    nlohmann::ordered_json object{{"task", r.task},
                                  {"length", r.length},
                                  {"policy", r.policy},
                                  {"ratio", r.ratio},
                                  {"score", r.score},
                                  {"samples", r.samples},
                                  {"kv_bytes_full", r.kv_bytes_full},
                                  {"kv_bytes_resident", r.kv_bytes_resident},
                                  {"prefill_s", r.prefill_s},
                                  {"decode_s", r.decode_s}};
    if (r.kl.has_value()) object["kl"] = *r.kl;
    if (r.top1.has_value()) object["top1"] = *r.top1;
    list.push_back(std::move(object));
  }
  return StrCat(list.dump(2), "\n");
}

bool Counts(std::span<const EvalResult> results, const std::string& task, int32_t length) {
  const EvalResult* const full = Find(results, task, length, kFull);
  return full != nullptr && full->score >= kLeastFullScore;
}

std::string WithoutRatio(const EvalResult& result) {
  const size_t at = result.policy.find('@');
  if (at == std::string::npos) return result.policy;
  const size_t options = std::min(result.policy.find(':', at), result.policy.size());
  // A budget of tokens or bytes says more than the ratio that it comes to.
  if (result.policy.find_first_not_of("0123456789.e-", at + 1) < options) return result.policy;
  return result.policy.substr(0, at) + result.policy.substr(options);
}

std::string ResultsMarkdown(std::span<const EvalResult> results) {
  std::string text;
  const auto add = [&text](const std::string& part) {
    if (!part.empty()) text += text.empty() ? part : StrCat("\n", part);
  };
  for (const int32_t length : Distinct(results, &EvalResult::length)) add(LengthTable(results, length));
  add(NllTable(results));
  add(SummaryTable(results));
  return text;
}

}  // namespace lukv
