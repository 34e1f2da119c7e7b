#include "engine/model/weight_layout.h"

#include <cstdint>
#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

// Takes the model's tensors one by one, so that a config that claims thousands of layers fails at the first that is
// not there.
class Collector {
 public:
  using Find = absl::FunctionRef<absl::StatusOr<TensorView>(std::string_view name)>;

  Collector(const ModelConfig& config, Find find) : config_(config), find_(find) {}

  absl::StatusOr<TensorMap> Run() {
    LUKV_RETURN_IF_ERROR(Add("token_embd.weight", config_.vocabulary, config_.hidden));
    for (int32_t layer = 0; layer < config_.n_layers; ++layer) {
      LUKV_RETURN_IF_ERROR(AddLayer(StrCat("blk.", layer, ".")));
    }
    LUKV_RETURN_IF_ERROR(Add("output_norm.weight", 1, config_.hidden));
    if (!config_.tied_embeddings) LUKV_RETURN_IF_ERROR(Add("output.weight", config_.vocabulary, config_.hidden));
    return std::move(tensors_);
  }

 private:
  absl::Status Add(std::string name, int64_t rows, int64_t cols) {
    const auto found = find_(name);
    // The model's files are there; what they lack is damage.
    if (absl::IsNotFound(found.status())) return absl::InvalidArgumentError(found.status().message());
    if (!found.ok()) return found.status();
    const TensorView view = *found;
    if (view.rows != rows || view.cols != cols) {
      return absl::InvalidArgumentError(StrCat("tensor ", name, " has shape [", view.rows, ", ", view.cols,
                                               "]; the config asks for [", rows, ", ", cols, "]"));
    }
    tensors_.emplace(std::move(name), view);
    return absl::OkStatus();
  }

  absl::Status AddLinear(const std::string& name, int64_t rows, int64_t cols, bool bias) {
    LUKV_RETURN_IF_ERROR(Add(name + ".weight", rows, cols));
    return bias ? Add(name + ".bias", 1, rows) : absl::OkStatus();
  }

  absl::Status AddLayer(const std::string& prefix) {
    const int64_t hidden = config_.hidden;
    const int64_t ffn = config_.ffn;
    const int64_t q_rows = int64_t{config_.n_heads} * config_.head_dim;
    const int64_t kv_rows = int64_t{config_.n_kv_heads} * config_.head_dim;
    LUKV_RETURN_IF_ERROR(Add(prefix + "attn_norm.weight", 1, hidden));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_q", q_rows, hidden, config_.qkv_bias));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_k", kv_rows, hidden, config_.qkv_bias));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_v", kv_rows, hidden, config_.qkv_bias));
    if (config_.qk_norm) {
      LUKV_RETURN_IF_ERROR(Add(prefix + "attn_q_norm.weight", 1, config_.head_dim));
      LUKV_RETURN_IF_ERROR(Add(prefix + "attn_k_norm.weight", 1, config_.head_dim));
    }
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_output", hidden, q_rows, config_.output_bias));
    LUKV_RETURN_IF_ERROR(Add(prefix + "ffn_norm.weight", 1, hidden));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "ffn_gate", ffn, hidden, config_.mlp_bias));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "ffn_up", ffn, hidden, config_.mlp_bias));
    return AddLinear(prefix + "ffn_down", hidden, ffn, config_.mlp_bias);
  }

  const ModelConfig& config_;
  Find find_;
  TensorMap tensors_;
};

}  // namespace

absl::StatusOr<TensorMap> CollectTensors(const ModelConfig& config,
                                         absl::FunctionRef<absl::StatusOr<TensorView>(std::string_view name)> find) {
  return Collector(config, find).Run();
}

absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, std::string_view name) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return absl::NotFoundError(StrCat("tensor ", name, " is not part of this model"));
  return it->second;
}

}  // namespace lukv
