#include "engine/model/weight_layout.h"

#include <utility>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

void AppendLayer(const ModelConfig& config, int32_t layer, std::vector<TensorSpec>& specs) {
  const int64_t hidden = config.hidden;
  const int64_t ffn = config.ffn;
  const int64_t q_rows = int64_t{config.n_heads} * config.head_dim;
  const int64_t kv_rows = int64_t{config.n_kv_heads} * config.head_dim;
  const std::string prefix = StrCat("blk.", layer, ".");
  const auto add = [&](std::string_view name, int64_t rows, int64_t cols) {
    specs.push_back({StrCat(prefix, name), rows, cols});
  };
  const auto add_linear = [&](std::string_view name, int64_t rows, int64_t cols, bool bias) {
    add(StrCat(name, ".weight"), rows, cols);
    if (bias) add(StrCat(name, ".bias"), 1, rows);
  };
  add("attn_norm.weight", 1, hidden);
  add_linear("attn_q", q_rows, hidden, config.qkv_bias);
  add_linear("attn_k", kv_rows, hidden, config.qkv_bias);
  add_linear("attn_v", kv_rows, hidden, config.qkv_bias);
  if (config.qk_norm) {
    add("attn_q_norm.weight", 1, config.head_dim);
    add("attn_k_norm.weight", 1, config.head_dim);
  }
  add_linear("attn_output", hidden, q_rows, config.output_bias);
  add("ffn_norm.weight", 1, hidden);
  add_linear("ffn_gate", ffn, hidden, config.mlp_bias);
  add_linear("ffn_up", ffn, hidden, config.mlp_bias);
  add_linear("ffn_down", hidden, ffn, config.mlp_bias);
}

}  // namespace

std::vector<TensorSpec> TensorsOf(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  specs.push_back({"token_embd.weight", config.vocabulary, config.hidden});
  for (int32_t layer = 0; layer < config.n_layers; ++layer) AppendLayer(config, layer, specs);
  specs.push_back({"output_norm.weight", 1, config.hidden});
  if (!config.tied_embeddings) specs.push_back({"output.weight", config.vocabulary, config.hidden});
  return specs;
}

absl::StatusOr<TensorMap> CollectTensors(const ModelConfig& config,
                                         absl::FunctionRef<absl::StatusOr<TensorView>(std::string_view name)> find) {
  TensorMap tensors;
  for (TensorSpec& spec : TensorsOf(config)) {
    LUKV_ASSIGN_OR_RETURN(const TensorView view, find(spec.name));
    if (view.rows != spec.rows || view.cols != spec.cols) {
      return absl::InvalidArgumentError(StrCat("tensor ", spec.name, " has shape [", view.rows, ", ", view.cols,
                                               "]; the config asks for [", spec.rows, ", ", spec.cols, "]"));
    }
    tensors.emplace(std::move(spec.name), view);
  }
  return tensors;
}

absl::StatusOr<TensorView> FindTensor(const TensorMap& tensors, std::string_view name) {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return absl::NotFoundError(StrCat("tensor ", name, " is not part of this model"));
  return it->second;
}

}  // namespace lukv
