// LU-KV's profile of a model: which part of each (layer, kv head) to prune at each global compression ratio.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/evict/policy.h"
#include "engine/model/model_config.h"

namespace lukv {

// What a curve was made for and from; the JSON sidecar.
struct CurveInfo {
  std::string model_fingerprint;  // engine/model/fingerprint.h
  std::string model_name;         // For people.
  ScorerSettings scorer;
  int32_t sink = 0;
  int32_t window = 0;
  std::vector<int32_t> context_tokens;  // Of each calibration context.
  int32_t questions = 0;                // Over all contexts.
  std::string program_version;
};

// Immutable.
class BudgetCurve {
 public:
  static constexpr int32_t kRatios = 99;

  // ratios: [99, n_layers, n_kv_heads] prune ratios in [0, 1]; row i - 1 is for a global ratio of i %.
  // INVALID_ARGUMENT: wrong size, or a value outside of [0, 1].
  static absl::StatusOr<BudgetCurve> Make(CurveInfo info, int32_t n_layers, int32_t n_kv_heads,
                                          std::vector<float> ratios);

  const CurveInfo& info() const { return info_; }
  int32_t n_layers() const { return n_layers_; }
  int32_t n_kv_heads() const { return n_kv_heads_; }
  // Prune ratios of one layer's heads for the global ratio, by the published index clamp(round(100 ratio) - 1, 0, 98).
  std::span<const float> Layer(double ratio, int32_t layer) const;
  std::span<const float> all() const { return ratios_; }

 private:
  CurveInfo info_;
  int32_t n_layers_ = 0;
  int32_t n_kv_heads_ = 0;
  std::vector<float> ratios_;
};

// `path` is the .npy file (f32, C order, version 1.x); the sidecar stands beside it with .json instead. Published
// curves have no sidecar: they need one written by hand.
absl::StatusOr<BudgetCurve> LoadCurve(const std::string& path);
// Writes both files, each whole or not at all.
absl::Status SaveCurve(const BudgetCurve& curve, const std::string& path);

// The curves that one model may use.
class CurveSet {
 public:
  // Every *.npy of the folder. INVALID_ARGUMENT names the file that is of another model or shape, or damaged.
  static absl::StatusOr<CurveSet> LoadFolder(const std::string& folder, const ModelConfig& config,
                                             const std::string& fingerprint);
  // The first folder `root`/* whose curves are of this model; empty if there is none. Damaged files are errors.
  static absl::StatusOr<CurveSet> Find(const std::string& root, const ModelConfig& config,
                                       const std::string& fingerprint);

  // LoadFolder if a folder is named, else Find if a root is, else nothing.
  static absl::StatusOr<CurveSet> Load(const std::string& folder, const std::string& root, const ModelConfig& config,
                                       const std::string& fingerprint);

  void Add(BudgetCurve curve);
  // Null if there is none for the scorer with exactly these settings and this protection.
  const BudgetCurve* Get(const ScorerSettings& scorer, int32_t sink, int32_t window) const;
  // ScorerLabel of each: "expected_attention", "snapkv".
  std::vector<std::string> Labels() const;
  bool empty() const { return curves_.empty(); }

 private:
  std::vector<std::unique_ptr<BudgetCurve>> curves_;  // Addresses stay.
};

}  // namespace lukv
