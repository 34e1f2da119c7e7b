#include "engine/model/model.h"

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

class Loader {
 public:
  Loader(const WeightSource& source, Backend& backend) : source_(source), backend_(backend) {}

  absl::StatusOr<DeviceBuffer> Upload(std::span<const float> values) {
    LUKV_ASSIGN_OR_RETURN(DeviceBuffer buffer, backend_.Allocate(values.size_bytes()));
    LUKV_RETURN_IF_ERROR(backend_.CopyToDevice(buffer.data(), values.data(), values.size_bytes()));
    bytes_ += static_cast<int64_t>(values.size_bytes());
    return buffer;
  }

  // The named vectors one after the other, as f32.
  absl::StatusOr<DeviceBuffer> Vectors(std::initializer_list<std::string> names) {
    std::vector<float> values;
    for (const std::string& name : names) {
      LUKV_ASSIGN_OR_RETURN(const TensorView view, source_.Tensor(name));
      const size_t at = values.size();
      values.resize(at + static_cast<size_t>(view.rows * view.cols));
      Dequantize(view.dtype, view.data, view.rows * view.cols, values.data() + at);
    }
    return Upload(values);
  }

  absl::StatusOr<std::unique_ptr<LinearWeight>> Linear(std::initializer_list<std::string> names) {
    std::vector<TensorView> parts;
    for (const std::string& name : names) {
      LUKV_ASSIGN_OR_RETURN(const TensorView view, source_.Tensor(name));
      parts.push_back(view);
    }
    LUKV_ASSIGN_OR_RETURN(std::unique_ptr<LinearWeight> weight, backend_.PackLinear(parts));
    bytes_ += static_cast<int64_t>(weight->memory_bytes());
    return weight;
  }

  absl::StatusOr<LayerWeights> Layer(int32_t layer) {
    const ModelConfig& config = source_.config();
    const auto name = [&](const char* part) { return absl::StrCat("blk.", layer, ".", part); };
    LayerWeights w;
    LUKV_ASSIGN_OR_RETURN(w.attention_norm, Vectors({name("attn_norm.weight")}));
    LUKV_ASSIGN_OR_RETURN(w.qkv, Linear({name("attn_q.weight"), name("attn_k.weight"), name("attn_v.weight")}));
    LUKV_ASSIGN_OR_RETURN(w.output, Linear({name("attn_output.weight")}));
    LUKV_ASSIGN_OR_RETURN(w.mlp_norm, Vectors({name("ffn_norm.weight")}));
    LUKV_ASSIGN_OR_RETURN(w.gate_up, Linear({name("ffn_gate.weight"), name("ffn_up.weight")}));
    LUKV_ASSIGN_OR_RETURN(w.down, Linear({name("ffn_down.weight")}));
    if (config.qkv_bias) {
      LUKV_ASSIGN_OR_RETURN(w.qkv_bias, Vectors({name("attn_q.bias"), name("attn_k.bias"), name("attn_v.bias")}));
    }
    if (config.output_bias) {
      LUKV_ASSIGN_OR_RETURN(w.output_bias, Vectors({name("attn_output.bias")}));
    }
    if (config.mlp_bias) {
      LUKV_ASSIGN_OR_RETURN(w.gate_up_bias, Vectors({name("ffn_gate.bias"), name("ffn_up.bias")}));
      LUKV_ASSIGN_OR_RETURN(w.down_bias, Vectors({name("ffn_down.bias")}));
    }
    if (config.qk_norm) {
      LUKV_ASSIGN_OR_RETURN(w.q_norm, Vectors({name("attn_q_norm.weight")}));
      LUKV_ASSIGN_OR_RETURN(w.k_norm, Vectors({name("attn_k_norm.weight")}));
    }
    return w;
  }

  int64_t bytes() const { return bytes_; }

 private:
  const WeightSource& source_;
  Backend& backend_;
  int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<Model> Model::Load(const WeightSource& source, Backend& backend) {
  Loader loader(source, backend);
  Model model;
  model.config = source.config();
  LUKV_ASSIGN_OR_RETURN(const TensorView table, source.Tensor("token_embd.weight"));
  LUKV_ASSIGN_OR_RETURN(model.embedding, backend.PackEmbedding(table));
  for (int32_t layer = 0; layer < model.config.n_layers; ++layer) {
    LUKV_ASSIGN_OR_RETURN(LayerWeights weights, loader.Layer(layer));
    model.layers.push_back(std::move(weights));
    source.LetGo();  // Else a large model would be in memory twice when its last layer is packed.
  }
  LUKV_ASSIGN_OR_RETURN(model.final_norm, loader.Vectors({"output_norm.weight"}));
  const char* output = model.config.tied_embeddings ? "token_embd.weight" : "output.weight";
  LUKV_ASSIGN_OR_RETURN(model.logits, loader.Linear({output}));
  LUKV_ASSIGN_OR_RETURN(model.inverse_frequency, loader.Upload(InverseFrequencies(model.config)));
  source.LetGo();
  model.weight_bytes = loader.bytes();
  return model;
}

}  // namespace lukv
