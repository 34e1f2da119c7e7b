#include "engine/evict/budget_curve.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/file.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/evict/npy.h"
#include "engine/model/checked_json.h"
#include "engine/model/mapped_file.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

// 4,096 layers of 1,024 kv heads would be 1.6 GB; real curves have some 100 KB.
constexpr size_t kMaxCurveBytes = size_t{64} << 20;
constexpr size_t kMaxSidecarBytes = size_t{1} << 20;

constexpr Scorer kScorers[] = {Scorer::kExpectedAttention, Scorer::kSnapKv,       Scorer::kKeyDiff,
                               Scorer::kKeyNorm,           Scorer::kStreamingLlm, Scorer::kRandom};

absl::StatusOr<std::string> SidecarPath(const std::string& path) {
  if (!absl::EndsWith(path, ".npy"))
    return absl::InvalidArgumentError(absl::StrCat(path, ": a curve's name ends in .npy"));
  return absl::StrCat(path.substr(0, path.size() - 4), ".json");
}

// ---------------------------------------------------------------------------------------------------------------------
// The sidecar

// A float that prints as people write it: 0.02, not 0.019999999552965164.
double Shortest(float value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  double result = 0;
  std::from_chars(digits, end, result);
  return result;
}

ordered_json SettingsJson(const ScorerSettings& scorer) {
  switch (scorer.scorer) {
    case Scorer::kExpectedAttention:
      return {{"epsilon", Shortest(scorer.epsilon)}, {"future", scorer.future}};
    case Scorer::kSnapKv:
      return {{"queries", scorer.queries},
              {"kernel", scorer.kernel},
              {"pool", scorer.pooling == Pooling::kMax ? "max" : "average"}};
    case Scorer::kRandom:
      return {{"seed", scorer.seed}};
    default:
      return ordered_json::object();
  }
}

std::string SerializeSidecar(const CurveInfo& info) {
  const ordered_json sidecar{{"model_fingerprint", info.model_fingerprint},
                             {"model_name", info.model_name},
                             {"scorer", ScorerName(info.scorer.scorer)},
                             {"settings", SettingsJson(info.scorer)},
                             {"sink", info.sink},
                             {"window", info.window},
                             {"context_tokens", info.context_tokens},
                             {"questions", info.questions},
                             {"program_version", info.program_version}};
  // A model's own name need not be UTF-8.
  return sidecar.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Members of one object, by name and type. What nobody asks for is ignored.
class Members {
 public:
  explicit Members(const json& object) : object_(object) {}

  bool Has(const char* name) const { return object_.contains(name); }

  absl::StatusOr<const json*> Get(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) return absl::InvalidArgumentError(StrCat("\"", name, "\" is missing"));
    return &*found;
  }
  absl::StatusOr<std::string> String(const char* name) const {
    LUKV_ASSIGN_OR_RETURN(const json* value, Get(name));
    if (!value->is_string()) return Wrong(name, "a string");
    return value->get<std::string>();
  }
  absl::StatusOr<int32_t> Count(const char* name) const {
    LUKV_ASSIGN_OR_RETURN(const json* value, Get(name));
    return AsCount(*value, name);
  }
  absl::StatusOr<uint64_t> Unsigned(const char* name) const {
    LUKV_ASSIGN_OR_RETURN(const json* value, Get(name));
    if (!value->is_number_unsigned()) return Wrong(name, "a count");
    return value->get<uint64_t>();
  }
  absl::StatusOr<float> Float(const char* name) const {
    LUKV_ASSIGN_OR_RETURN(const json* value, Get(name));
    if (!value->is_number()) return Wrong(name, "a number");
    return static_cast<float>(value->get<double>());
  }
  absl::StatusOr<std::vector<int32_t>> Counts(const char* name) const {
    LUKV_ASSIGN_OR_RETURN(const json* value, Get(name));
    if (!value->is_array()) return Wrong(name, "a list of counts");
    std::vector<int32_t> counts;
    for (const json& element : *value) {
      LUKV_ASSIGN_OR_RETURN(const int32_t count, AsCount(element, name));
      counts.push_back(count);
    }
    return counts;
  }

 private:
  static absl::Status Wrong(const char* name, const char* what) {
    return absl::InvalidArgumentError(StrCat("\"", name, "\" is not ", what));
  }
  static absl::StatusOr<int32_t> AsCount(const json& value, const char* name) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
      return Wrong(name, "a count");
    }
    return static_cast<int32_t>(value.get<uint64_t>());
  }

  const json& object_;
};

absl::StatusOr<Scorer> ScorerOf(const std::string& name) {
  for (const Scorer scorer : kScorers) {
    if (name == ScorerName(scorer)) return scorer;
  }
  return absl::InvalidArgumentError(StrCat("\"scorer\" is ", Quoted(name), ", which is none"));
}

// Every setting of the scorer must be there: a curve for other settings than one thinks is a wrong curve.
absl::Status ReadSettings(const Members& settings, ScorerSettings& scorer) {
  switch (scorer.scorer) {
    case Scorer::kExpectedAttention: {
      LUKV_ASSIGN_OR_RETURN(scorer.epsilon, settings.Float("epsilon"));
      LUKV_ASSIGN_OR_RETURN(scorer.future, settings.Count("future"));
      return absl::OkStatus();
    }
    case Scorer::kSnapKv: {
      LUKV_ASSIGN_OR_RETURN(scorer.queries, settings.Count("queries"));
      LUKV_ASSIGN_OR_RETURN(scorer.kernel, settings.Count("kernel"));
      LUKV_ASSIGN_OR_RETURN(const std::string pool, settings.String("pool"));
      if (pool != "max" && pool != "average")
        return absl::InvalidArgumentError("\"pool\" is not \"max\" or \"average\"");
      scorer.pooling = pool == "max" ? Pooling::kMax : Pooling::kAverage;
      return absl::OkStatus();
    }
    case Scorer::kRandom: {
      LUKV_ASSIGN_OR_RETURN(scorer.seed, settings.Unsigned("seed"));
      return absl::OkStatus();
    }
    default:
      return absl::OkStatus();
  }
}

absl::StatusOr<CurveInfo> ParseSidecar(std::string_view text) {
  LUKV_ASSIGN_OR_RETURN(const json sidecar, ParseCheckedJson(text));
  if (!sidecar.is_object()) return absl::InvalidArgumentError("not a JSON object");
  const Members members(sidecar);
  CurveInfo info;
  LUKV_ASSIGN_OR_RETURN(info.model_fingerprint, members.String("model_fingerprint"));
  LUKV_ASSIGN_OR_RETURN(const std::string scorer, members.String("scorer"));
  LUKV_ASSIGN_OR_RETURN(info.scorer.scorer, ScorerOf(scorer));
  const json none = json::object();
  const json* settings = &none;
  if (members.Has("settings")) {
    LUKV_ASSIGN_OR_RETURN(settings, members.Get("settings"));
    if (!settings->is_object()) return absl::InvalidArgumentError("\"settings\" is not an object");
  }
  LUKV_RETURN_IF_ERROR(ReadSettings(Members(*settings), info.scorer));
  LUKV_ASSIGN_OR_RETURN(info.sink, members.Count("sink"));
  LUKV_ASSIGN_OR_RETURN(info.window, members.Count("window"));
  // How it came about; who writes a sidecar for a published curve may not know.
  if (members.Has("model_name")) {
    LUKV_ASSIGN_OR_RETURN(info.model_name, members.String("model_name"));
  }
  if (members.Has("context_tokens")) {
    LUKV_ASSIGN_OR_RETURN(info.context_tokens, members.Counts("context_tokens"));
  }
  if (members.Has("questions")) {
    LUKV_ASSIGN_OR_RETURN(info.questions, members.Count("questions"));
  }
  if (members.Has("program_version")) {
    LUKV_ASSIGN_OR_RETURN(info.program_version, members.String("program_version"));
  }
  const Policy policy{.full = false, .scorer = info.scorer, .sink = info.sink, .window = info.window};
  LUKV_RETURN_IF_ERROR(ValidatePolicy(policy));
  return info;
}

// ---------------------------------------------------------------------------------------------------------------------
// Folders

// Files or folders directly in `folder`, sorted: file systems list them in any order.
absl::StatusOr<std::vector<std::string>> Entries(const std::string& folder) {
  std::vector<std::string> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    entries.push_back(it->path().string());
  }
  if (error) {
    const std::string message = absl::StrCat(folder, ": ", error.message());
    return error == std::errc::no_such_file_or_directory ? absl::NotFoundError(message)
                                                         : absl::InvalidArgumentError(message);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

struct LoadedCurve {
  std::string path;
  BudgetCurve curve;
};

absl::StatusOr<std::vector<LoadedCurve>> LoadAll(const std::string& folder) {
  LUKV_ASSIGN_OR_RETURN(const std::vector<std::string> entries, Entries(folder));
  std::vector<LoadedCurve> curves;
  for (const std::string& path : entries) {
    if (!absl::EndsWith(path, ".npy")) continue;
    LUKV_ASSIGN_OR_RETURN(BudgetCurve curve, LoadCurve(path));
    curves.push_back({path, std::move(curve)});
  }
  return curves;
}

absl::StatusOr<CurveSet> CheckedSet(std::vector<LoadedCurve> curves, const ModelConfig& config,
                                    const std::string& fingerprint) {
  CurveSet set;
  for (LoadedCurve& loaded : curves) {
    const CurveInfo& info = loaded.curve.info();
    if (info.model_fingerprint != fingerprint) {
      return absl::InvalidArgumentError(absl::StrCat(loaded.path, ": the curve is of the model ",
                                                     Quoted(info.model_fingerprint), ", this is ", fingerprint));
    }
    if (loaded.curve.n_layers() != config.n_layers || loaded.curve.n_kv_heads() != config.n_kv_heads) {
      return absl::InvalidArgumentError(absl::StrCat(loaded.path, ": the curve has ", loaded.curve.n_layers(),
                                                     " layers of ", loaded.curve.n_kv_heads(), " kv heads, the model ",
                                                     config.n_layers, " of ", config.n_kv_heads));
    }
    if (set.Get(info.scorer, info.sink, info.window) != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(loaded.path, ": another file of the folder is also a curve for ",
                                                     ScorerLabel(info.scorer, info.sink, info.window)));
    }
    set.Add(std::move(loaded.curve));
  }
  return set;
}

}  // namespace

absl::StatusOr<BudgetCurve> BudgetCurve::Make(CurveInfo info, int32_t n_layers, int32_t n_kv_heads,
                                              std::vector<float> ratios) {
  if (n_layers < 1 || n_kv_heads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a budget curve of ", n_layers, " layers of ", n_kv_heads, " kv heads"));
  }
  const size_t row = static_cast<size_t>(n_layers) * static_cast<size_t>(n_kv_heads);
  if (ratios.size() % kRatios != 0 || ratios.size() / kRatios != row) {
    return absl::InvalidArgumentError(absl::StrCat("a budget curve of ", n_layers, " layers of ", n_kv_heads,
                                                   " kv heads has ", kRatios, " times ", row, " ratios, not ",
                                                   ratios.size()));
  }
  for (size_t i = 0; i < ratios.size(); ++i) {
    if (ratios[i] >= 0 && ratios[i] <= 1) continue;
    const size_t head = i % row;
    return absl::InvalidArgumentError(absl::StrCat("the prune ratio of layer ", head / static_cast<size_t>(n_kv_heads),
                                                   ", kv head ", head % static_cast<size_t>(n_kv_heads), " at ",
                                                   i / row + 1, " % is ", ratios[i], "; must be in [0, 1]"));
  }
  BudgetCurve curve;
  curve.info_ = std::move(info);
  curve.n_layers_ = n_layers;
  curve.n_kv_heads_ = n_kv_heads;
  curve.ratios_ = std::move(ratios);
  return curve;
}

std::span<const float> BudgetCurve::Layer(double ratio, int32_t layer) const {
  LUKV_CHECK(layer >= 0 && layer < n_layers_);
  // Half to even, as Python's round().
  const double index = std::clamp(std::nearbyint(100 * ratio) - 1, 0.0, static_cast<double>(kRatios - 1));
  const size_t heads = static_cast<size_t>(n_kv_heads_);
  const size_t at = (static_cast<size_t>(index) * static_cast<size_t>(n_layers_) + static_cast<size_t>(layer)) * heads;
  return {&ratios_[at], heads};
}

absl::StatusOr<BudgetCurve> LoadCurve(const std::string& path) {
  LUKV_ASSIGN_OR_RETURN(const std::string sidecar_path, SidecarPath(path));
  LUKV_ASSIGN_OR_RETURN(const std::string file, ReadWholeFile(path, kMaxCurveBytes));
  auto array = ParseNpy(file);
  if (!array.ok()) return Prefixed(array.status(), path);
  if (array->shape.size() != 3 || array->shape[0] != BudgetCurve::kRatios ||
      std::max(array->shape[1], array->shape[2]) > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a budget curve is an array of [", BudgetCurve::kRatios, ", layers, kv heads]"));
  }
  const auto text = ReadWholeFile(sidecar_path, kMaxSidecarBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", sidecar_path, ", which says what model and scorer it is for, is missing"));
  }
  if (!text.ok()) return text.status();
  auto info = ParseSidecar(*text);
  if (!info.ok()) return Prefixed(info.status(), sidecar_path);
  auto curve = BudgetCurve::Make(*std::move(info), static_cast<int32_t>(array->shape[1]),
                                 static_cast<int32_t>(array->shape[2]), std::move(array->values));
  if (!curve.ok()) return Prefixed(curve.status(), path);
  return curve;
}

absl::Status SaveCurve(const BudgetCurve& curve, const std::string& path) {
  LUKV_ASSIGN_OR_RETURN(const std::string sidecar_path, SidecarPath(path));
  const NpyArray array{.shape = {BudgetCurve::kRatios, curve.n_layers(), curve.n_kv_heads()},
                       .values = {curve.all().begin(), curve.all().end()}};
  LUKV_RETURN_IF_ERROR(WriteWholeFile(path, SerializeNpy(array)));
  return WriteWholeFile(sidecar_path, SerializeSidecar(curve.info()));
}

absl::StatusOr<CurveSet> CurveSet::LoadFolder(const std::string& folder, const ModelConfig& config,
                                              const std::string& fingerprint) {
  LUKV_ASSIGN_OR_RETURN(std::vector<LoadedCurve> curves, LoadAll(folder));
  return CheckedSet(std::move(curves), config, fingerprint);
}

absl::StatusOr<CurveSet> CurveSet::Find(const std::string& root, const ModelConfig& config,
                                        const std::string& fingerprint) {
  const auto folders = Entries(root);
  if (absl::IsNotFound(folders.status())) return CurveSet();
  if (!folders.ok()) return folders.status();
  for (const std::string& folder : *folders) {
    std::error_code error;
    if (!fs::is_directory(folder, error)) continue;
    LUKV_ASSIGN_OR_RETURN(std::vector<LoadedCurve> curves, LoadAll(folder));
    const bool of_this_model = std::any_of(curves.begin(), curves.end(), [&](const LoadedCurve& loaded) {
      return loaded.curve.info().model_fingerprint == fingerprint;
    });
    if (of_this_model) return CheckedSet(std::move(curves), config, fingerprint);
  }
  return CurveSet();
}

absl::StatusOr<CurveSet> CurveSet::Load(const std::string& folder, const std::string& root, const ModelConfig& config,
                                        const std::string& fingerprint) {
  if (!folder.empty()) return LoadFolder(folder, config, fingerprint);
  if (!root.empty()) return Find(root, config, fingerprint);
  return CurveSet();
}

void CurveSet::Add(BudgetCurve curve) { curves_.push_back(std::make_unique<BudgetCurve>(std::move(curve))); }

const BudgetCurve* CurveSet::Get(const ScorerSettings& scorer, int32_t sink, int32_t window) const {
  for (const std::unique_ptr<BudgetCurve>& curve : curves_) {
    const CurveInfo& info = curve->info();
    if (info.scorer == scorer && info.sink == sink && info.window == window) return curve.get();
  }
  return nullptr;
}

std::vector<std::string> CurveSet::Labels() const {
  std::vector<std::string> labels;
  for (const std::unique_ptr<BudgetCurve>& curve : curves_) {
    const CurveInfo& info = curve->info();
    labels.push_back(ScorerLabel(info.scorer, info.sink, info.window));
  }
  return labels;
}

}  // namespace lukv
