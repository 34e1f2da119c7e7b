#include "tools/simulate/modelled_model.h"

#include <algorithm>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/fnv.h"
#include "engine/model/weight_layout.h"
#include "tools/simulate/random.h"

namespace lukv {
namespace {

class ModelledWeights final : public WeightSource {
 public:
  explicit ModelledWeights(ModelConfig config) : config_(std::move(config)) {
    LUKV_CHECK(config_.Validate().ok());
    const absl::Status status = ForEachTensor(config_, [this](const std::string& name, int64_t rows, int64_t cols) {
      Fnv1a64 hash;
      hash.AddText(name);
      Random random(hash.value());
      std::vector<float>& values = values_.emplace_back(static_cast<size_t>(rows * cols));
      for (float& value : values) value = static_cast<float>(random.Unit());
      tensors_[name] = {
          .dtype = DType::kF32, .rows = rows, .cols = cols, .data = reinterpret_cast<const std::byte*>(values.data())};
      bytes_ += values.size() * sizeof(float);
      return absl::OkStatus();
    });
    LUKV_CHECK(status.ok());
  }

  const ModelConfig& config() const override { return config_; }
  absl::StatusOr<TensorView> Tensor(std::string_view name) const override { return FindTensor(tensors_, name); }
  bool Has(std::string_view name) const override { return tensors_.contains(name); }
  size_t file_bytes() const override { return bytes_; }

 private:
  const ModelConfig config_;
  std::list<std::vector<float>> values_;  // Addresses stay.
  TensorMap tensors_;
  size_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<WeightSource> MakeModelledWeights(const ModelledShape& shape) {
  ModelConfig config{.architecture = "llama",
                     .name = "modelled",
                     .n_layers = shape.n_layers,
                     .n_heads = shape.n_heads,
                     .n_kv_heads = shape.n_kv_heads,
                     .head_dim = 4,
                     .hidden = 8,
                     .ffn = 8,
                     .vocabulary = shape.vocabulary,
                     .context_length = shape.context_length};
  return std::make_unique<ModelledWeights>(std::move(config));
}

CurveSet MakeModelledCurves(const ModelConfig& config, const std::string& fingerprint) {
  CurveSet curves;
  for (const Scorer scorer : {Scorer::kExpectedAttention, Scorer::kSnapKv, Scorer::kKeyDiff}) {
    const Policy policy = DefaultPolicy(scorer);
    CurveInfo info{.model_fingerprint = fingerprint,
                   .model_name = config.name,
                   .scorer = policy.scorer,
                   .sink = policy.sink,
                   .window = policy.window};
    std::vector<float> ratios;
    for (int32_t percent = 1; percent <= BudgetCurve::kRatios; ++percent) {
      for (int32_t head = 0; head < config.n_layers * config.n_kv_heads; ++head) {
        const float ratio = static_cast<float>(percent) / 100;
        ratios.push_back(std::clamp(head % 2 == 0 ? ratio * 0.8f : ratio * 1.2f, 0.0f, 1.0f));
      }
    }
    auto curve = BudgetCurve::Make(std::move(info), config.n_layers, config.n_kv_heads, std::move(ratios));
    LUKV_CHECK(curve.ok());
    curves.Add(*std::move(curve));
  }
  return curves;
}

}  // namespace lukv
