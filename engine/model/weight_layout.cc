#include "engine/model/weight_layout.h"

#include <cstdint>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

// Names the model's tensors one by one, so that a config that claims thousands of layers fails at the first that is not
// there.
class Layout {
 public:
  using Add = absl::FunctionRef<absl::Status(const std::string& name, int64_t rows, int64_t cols)>;

  Layout(const ModelConfig& config, Add add) : config_(config), add_(add) {}

  absl::Status Run() {
    LUKV_RETURN_IF_ERROR(add_("token_embd.weight", config_.vocabulary, config_.hidden));
    for (int32_t layer = 0; layer < config_.n_layers; ++layer) {
      LUKV_RETURN_IF_ERROR(AddLayer(StrCat("blk.", layer, ".")));
    }
    LUKV_RETURN_IF_ERROR(add_("output_norm.weight", 1, config_.hidden));
    return config_.tied_embeddings ? absl::OkStatus() : add_("output.weight", config_.vocabulary, config_.hidden);
  }

 private:
  absl::Status AddLinear(const std::string& name, int64_t rows, int64_t cols, bool bias) {
    LUKV_RETURN_IF_ERROR(add_(name + ".weight", rows, cols));
    return bias ? add_(name + ".bias", 1, rows) : absl::OkStatus();
  }

  absl::Status AddLayer(const std::string& prefix) {
    const int64_t hidden = config_.hidden;
    const int64_t ffn = config_.ffn;
    const int64_t q_rows = int64_t{config_.n_heads} * config_.head_dim;
    const int64_t kv_rows = int64_t{config_.n_kv_heads} * config_.head_dim;
    LUKV_RETURN_IF_ERROR(add_(prefix + "attn_norm.weight", 1, hidden));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_q", q_rows, hidden, config_.qkv_bias));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_k", kv_rows, hidden, config_.qkv_bias));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_v", kv_rows, hidden, config_.qkv_bias));
    if (config_.qk_norm) {
      LUKV_RETURN_IF_ERROR(add_(prefix + "attn_q_norm.weight", 1, config_.head_dim));
      LUKV_RETURN_IF_ERROR(add_(prefix + "attn_k_norm.weight", 1, config_.head_dim));
    }
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "attn_output", hidden, q_rows, config_.output_bias));
    LUKV_RETURN_IF_ERROR(add_(prefix + "ffn_norm.weight", 1, hidden));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "ffn_gate", ffn, hidden, config_.mlp_bias));
    LUKV_RETURN_IF_ERROR(AddLinear(prefix + "ffn_up", ffn, hidden, config_.mlp_bias));
    return AddLinear(prefix + "ffn_down", hidden, ffn, config_.mlp_bias);
  }

  const ModelConfig& config_;
  Add add_;
};

}  // namespace

absl::Status ForEachTensor(const ModelConfig& config,
                           absl::FunctionRef<absl::Status(const std::string& name, int64_t rows, int64_t cols)> add) {
  return Layout(config, add).Run();
}

absl::StatusOr<TensorMap> CollectTensors(const ModelConfig& config,
                                         absl::FunctionRef<absl::StatusOr<TensorView>(std::string_view name)> find) {
  TensorMap tensors;
  const auto add = [&](const std::string& name, int64_t rows, int64_t cols) -> absl::Status {
    const auto found = find(name);
    // The model's files are there; what they lack is damage.
    if (absl::IsNotFound(found.status())) return absl::InvalidArgumentError(found.status().message());
    if (!found.ok()) return found.status();
    const TensorView view = *found;
    if (view.rows != rows || view.cols != cols) {
      return absl::InvalidArgumentError(StrCat("tensor ", name, " has shape [", view.rows, ", ", view.cols,
                                               "]; the config asks for [", rows, ", ", cols, "]"));
    }
    tensors.emplace(name, view);
    return absl::OkStatus();
  };
  LUKV_RETURN_IF_ERROR(ForEachTensor(config, add));
  return tensors;
}

absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, std::string_view name) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return absl::NotFoundError(StrCat("tensor ", name, " is not part of this model"));
  return it->second;
}

}  // namespace lukv
