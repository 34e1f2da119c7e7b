// Metadata keys: gguf.md ("Standardized key-value pairs", "LLM") and llama.cpp's converter (convert_hf_to_gguf.py).
#include "engine/model/gguf_weights.h"

#include <cmath>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/weight_layout.h"

namespace lukv {
namespace {

struct Architecture {
  std::string_view name;
  RopeLayout rope_layout;
  bool qk_norm;
};

// The converter permutes the rows of q and k for the llama architecture alone, so that pairs lie side by side.
constexpr Architecture kArchitectures[] = {
    {"llama", RopeLayout::kInterleaved, false},
    {"qwen2", RopeLayout::kHalfSplit, false},
    {"qwen3", RopeLayout::kHalfSplit, true},
};

// Reads "<architecture>.<key>".
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string_view architecture) : file_(file), prefix_(architecture) {}

  std::string Key(std::string_view key) const { return StrCat(prefix_, ".", key); }
  bool Has(std::string_view key) const { return file_.Has(Key(key)); }

  absl::StatusOr<int32_t> Int(std::string_view key) const {
    LUKV_ASSIGN_OR_RETURN(const int64_t value, file_.GetInt(Key(key)));
    if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(StrCat("key \"", Key(key), "\" is ", value));
    }
    return static_cast<int32_t>(value);
  }
  absl::StatusOr<int32_t> Int(std::string_view key, int32_t otherwise) const { return Has(key) ? Int(key) : otherwise; }
  absl::StatusOr<float> Float(std::string_view key, float otherwise) const {
    if (!Has(key)) return otherwise;
    LUKV_ASSIGN_OR_RETURN(const double value, file_.GetFloat(Key(key)));
    return static_cast<float>(value);
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

absl::StatusOr<Architecture> FindArchitecture(const GgufFile& file) {
  LUKV_ASSIGN_OR_RETURN(const std::string_view name, file.GetString("general.architecture"));
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return architecture;
  }
  return absl::UnimplementedError(
      StrCat("architecture ", Quoted(name), " is not supported; supported are llama (also Mistral), qwen2, qwen3"));
}

// Settings that change the computation and that the forward has no place for, with the value that means "off".
absl::Status RefuseUnsupported(const Metadata& metadata) {
  struct Setting {
    std::string_view key;
    float off;
  };
  constexpr Setting kSettings[] = {{"expert_count", 0},    {"logit_scale", 1},     {"residual_scale", 1},
                                   {"embedding_scale", 1}, {"attention.scale", 0}, {"rope.scaling.attn_factor", 1}};
  for (const Setting& setting : kSettings) {
    LUKV_ASSIGN_OR_RETURN(const float value, metadata.Float(setting.key, setting.off));
    if (value != setting.off) {
      return absl::UnimplementedError(
          StrCat(metadata.Key(setting.key), " = ", value, " is not supported; only ", setting.off, " is"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadShape(const Metadata& metadata, ModelConfig& config) {
  LUKV_ASSIGN_OR_RETURN(config.n_layers, metadata.Int("block_count"));
  LUKV_ASSIGN_OR_RETURN(config.context_length, metadata.Int("context_length"));
  LUKV_ASSIGN_OR_RETURN(config.hidden, metadata.Int("embedding_length"));
  LUKV_ASSIGN_OR_RETURN(config.ffn, metadata.Int("feed_forward_length"));
  LUKV_ASSIGN_OR_RETURN(config.n_heads, metadata.Int("attention.head_count"));
  LUKV_ASSIGN_OR_RETURN(config.n_kv_heads, metadata.Int("attention.head_count_kv", config.n_heads));
  const int32_t even_share = config.n_heads > 0 ? config.hidden / config.n_heads : 0;
  LUKV_ASSIGN_OR_RETURN(config.head_dim, metadata.Int("attention.key_length", even_share));
  LUKV_ASSIGN_OR_RETURN(const int32_t value_length, metadata.Int("attention.value_length", config.head_dim));
  if (value_length != config.head_dim) {
    return absl::UnimplementedError(StrCat(metadata.Key("attention.value_length"), " = ", value_length,
                                           " differs from the key length ", config.head_dim,
                                           "; only equal lengths are supported"));
  }
  LUKV_ASSIGN_OR_RETURN(config.norm_epsilon, metadata.Float("attention.layer_norm_rms_epsilon", config.norm_epsilon));
  LUKV_ASSIGN_OR_RETURN(config.sliding_window, metadata.Int("attention.sliding_window", 0));
  return absl::OkStatus();
}

// Llama 3's scaling comes as divisors in a tensor, made by the converter.
absl::Status ReadRopeDivisors(const GgufFile& file, ModelConfig& config) {
  constexpr std::string_view kName = "rope_freqs.weight";
  if (!file.HasTensor(kName)) return absl::OkStatus();
  LUKV_ASSIGN_OR_RETURN(const TensorView view, file.Tensor(kName));
  if (view.rows != 1 || view.cols != config.head_dim / 2) {
    return absl::InvalidArgumentError(StrCat("tensor ", kName, " has shape [", view.rows, ", ", view.cols,
                                             "]; the config asks for [1, ", config.head_dim / 2, "]"));
  }
  config.rope_divisors.resize(view.cols);
  Dequantize(view.dtype, view.data, view.cols, config.rope_divisors.data());
  return absl::OkStatus();
}

absl::Status ReadRope(const GgufFile& file, const Metadata& metadata, ModelConfig& config) {
  LUKV_ASSIGN_OR_RETURN(config.rope_base, metadata.Float("rope.freq_base", config.rope_base));
  LUKV_ASSIGN_OR_RETURN(const int32_t rotated, metadata.Int("rope.dimension_count", config.head_dim));
  if (rotated != config.head_dim) {
    return absl::UnimplementedError(StrCat(metadata.Key("rope.dimension_count"), " = ", rotated, " of ",
                                           config.head_dim, ": partial rotary embedding is not supported"));
  }
  std::string_view scaling = "none";
  if (metadata.Has("rope.scaling.type")) {
    LUKV_ASSIGN_OR_RETURN(scaling, file.GetString(metadata.Key("rope.scaling.type")));
  } else if (metadata.Has("rope.scale_linear")) {  // The key of older files.
    scaling = "linear";
  }
  if (scaling == "linear") {
    LUKV_ASSIGN_OR_RETURN(const float older, metadata.Float("rope.scale_linear", 1.0f));
    LUKV_ASSIGN_OR_RETURN(config.rope_factor, metadata.Float("rope.scaling.factor", older));
    config.rope_scaling = RopeScaling::kLinear;
  } else if (scaling != "none") {
    return absl::UnimplementedError(StrCat("rope scaling ", Quoted(scaling),
                                           " is not supported; supported are none, linear, and llama3 (as a "
                                           "rope_freqs.weight tensor)"));
  }
  return ReadRopeDivisors(file, config);
}

// A tensor that the forward would not read means a model that lukv does not know, not one to run without it.
absl::Status RefuseUnknownTensors(const GgufFile& file, const ModelConfig& config, const TensorMap& known) {
  for (const std::string_view name : file.TensorNames()) {
    if (known.contains(name) || name == "rope_freqs.weight") continue;
    return absl::UnimplementedError(
        StrCat("tensor ", Quoted(name), " is not part of a ", config.architecture, " model as lukv knows it"));
  }
  return absl::OkStatus();
}

class GgufWeights : public WeightSource {
 public:
  GgufWeights(std::unique_ptr<GgufFile> file, ModelConfig config, TensorMap tensors)
      : file_(std::move(file)), config_(std::move(config)), tensors_(std::move(tensors)) {}

  const ModelConfig& config() const override { return config_; }
  absl::StatusOr<TensorView> Tensor(std::string_view name) const override { return FindTensor(tensors_, name); }
  bool Has(std::string_view name) const override { return tensors_.contains(name); }
  size_t file_bytes() const override { return file_->file_bytes(); }
  void LetGo() const override { file_->LetGo(); }
  const GgufFile* gguf() const override { return file_.get(); }

 private:
  std::unique_ptr<GgufFile> file_;
  ModelConfig config_;
  TensorMap tensors_;
};

// Requires general.architecture and the keys of its architecture; NOT_FOUND by name.
absl::StatusOr<ModelConfig> ReadConfig(const GgufFile& file, const std::string& name) {
  LUKV_ASSIGN_OR_RETURN(const Architecture architecture, FindArchitecture(file));
  const Metadata metadata(file, architecture.name);
  LUKV_RETURN_IF_ERROR(RefuseUnsupported(metadata));
  ModelConfig config;
  config.architecture = std::string(architecture.name);
  config.name = name;
  if (file.Has("general.name")) {
    LUKV_ASSIGN_OR_RETURN(config.name, file.GetString("general.name"));
  }
  config.rope_layout = architecture.rope_layout;
  config.qk_norm = architecture.qk_norm;
  LUKV_RETURN_IF_ERROR(ReadShape(metadata, config));
  LUKV_RETURN_IF_ERROR(ReadRope(file, metadata, config));
  LUKV_ASSIGN_OR_RETURN(const TensorView embedding, file.Tensor("token_embd.weight"));
  if (embedding.rows > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(StrCat("tensor token_embd.weight has ", embedding.rows, " rows"));
  }
  config.vocabulary = static_cast<int32_t>(embedding.rows);
  config.qkv_bias = file.HasTensor("blk.0.attn_q.bias");
  config.output_bias = file.HasTensor("blk.0.attn_output.bias");
  config.mlp_bias = file.HasTensor("blk.0.ffn_gate.bias");
  config.tied_embeddings = !file.HasTensor("output.weight");
  LUKV_RETURN_IF_ERROR(config.Validate());
  return config;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> WeightsFromGguf(std::unique_ptr<GgufFile> file, const std::string& name) {
  auto config = ReadConfig(*file, name);
  // The file is there; what it lacks is damage.
  if (absl::IsNotFound(config.status())) return absl::InvalidArgumentError(config.status().message());
  if (!config.ok()) return config.status();
  LUKV_ASSIGN_OR_RETURN(TensorMap tensors,
                        CollectTensors(*config, [&](std::string_view tensor) { return file->Tensor(tensor); }));
  LUKV_RETURN_IF_ERROR(RefuseUnknownTensors(*file, *config, tensors));
  return std::make_unique<GgufWeights>(std::move(file), *std::move(config), std::move(tensors));
}

}  // namespace lukv
