// Fields and their defaults: transformers 5.2, models/{llama,mistral,qwen2,qwen3}/configuration_*.py and
// modeling_rope_utils.py (convert_rope_params_to_dict, standardize_rope_params).
#include "engine/model/hf_config.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

using nlohmann::json;

struct Family {
  std::string_view model_type;
  std::string_view class_name;  // The one entry that `architectures` may have.
  int32_t default_head_dim;     // 0: hidden / heads.
  int32_t default_window;       // Where sliding_window is not there.
  bool window_has_switch;       // use_sliding_window, off by default.
  bool always_qkv_bias;
  bool attention_bias_field;  // attention_bias: on q, k, v and the output projection.
  bool mlp_bias_field;
  bool qk_norm;
};

constexpr Family kFamilies[] = {
    {"llama", "LlamaForCausalLM", 0, 0, false, false, true, true, false},
    {"mistral", "MistralForCausalLM", 0, 4096, false, false, false, false, false},
    {"qwen2", "Qwen2ForCausalLM", 0, 4096, true, true, false, false, false},
    {"qwen3", "Qwen3ForCausalLM", 128, 4096, true, false, true, false, true},
};

constexpr std::string_view kSupported = "supported are llama, mistral, qwen2, qwen3";

std::string Shown(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace).substr(0, 80);
}

// Typed access to an object's fields. A field that is null counts as missing, as in Python.
class Fields {
 public:
  // `where` is put in front of names in errors, e.g. "rope_scaling.".
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  absl::StatusOr<int32_t> Int(const char* key) const {
    const json* value = Find(key);
    if (value == nullptr) return Missing(key);
    if (!value->is_number_integer()) return Wrong(key, *value, "a whole number");
    // Unsigned values above the signed range wrap to negative ones in get<int64_t>, and are refused with them.
    const auto number = value->get<int64_t>();
    if (number < 0 || number > std::numeric_limits<int32_t>::max()) return Wrong(key, *value, "in [0, 2^31)");
    return static_cast<int32_t>(number);
  }
  absl::StatusOr<int32_t> Int(const char* key, int32_t otherwise) const {
    return Find(key) == nullptr ? otherwise : Int(key);
  }
  absl::StatusOr<float> Float(const char* key) const {
    const json* value = Find(key);
    if (value == nullptr) return Missing(key);
    if (!value->is_number()) return Wrong(key, *value, "a number");
    return static_cast<float>(value->get<double>());
  }
  absl::StatusOr<float> Float(const char* key, float otherwise) const {
    return Find(key) == nullptr ? otherwise : Float(key);
  }
  absl::StatusOr<bool> Bool(const char* key, bool otherwise) const {
    const json* value = Find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) return Wrong(key, *value, "true or false");
    return value->get<bool>();
  }
  absl::StatusOr<std::string> String(const char* key, const std::string& otherwise) const {
    const json* value = Find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) return Wrong(key, *value, "a string");
    return value->get<std::string>();
  }

 private:
  absl::Status Missing(const char* key) const {
    return absl::InvalidArgumentError(StrCat("\"", where_, key, "\" is missing"));
  }
  absl::Status Wrong(const char* key, const json& value, std::string_view wanted) const {
    return absl::InvalidArgumentError(StrCat("\"", where_, key, "\" is ", Shown(value), ", not ", wanted));
  }

  const json& object_;
  std::string where_;
};

absl::StatusOr<Family> FindFamily(const json& root, const Fields& fields) {
  LUKV_ASSIGN_OR_RETURN(const std::string type, fields.String("model_type", ""));
  for (const Family& family : kFamilies) {
    if (family.model_type != type) continue;
    const json* architectures = fields.Find("architectures");
    if (architectures != nullptr && *architectures != json::array({family.class_name})) {
      return absl::UnimplementedError(StrCat("\"architectures\" is ", Shown(*architectures), "; for model_type ", type,
                                             " only ", family.class_name, " is supported"));
    }
    return family;
  }
  if (fields.Find("model_type") == nullptr) {
    return absl::InvalidArgumentError(StrCat("\"model_type\" is missing; ", kSupported));
  }
  return absl::UnimplementedError(
      StrCat("model_type ", Shown(root.at("model_type")), " is not supported; ", kSupported));
}

absl::Status RefuseUnsupported(const Fields& fields) {
  LUKV_ASSIGN_OR_RETURN(const std::string activation, fields.String("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {  // Two names of one function.
    return absl::UnimplementedError(StrCat("hidden_act ", Quoted(activation), " is not supported; only silu is"));
  }
  if (const json* quantization = fields.Find("quantization_config"); quantization != nullptr) {
    return absl::UnimplementedError(StrCat("quantization_config ", Shown(*quantization),
                                           " is not supported; a folder's weights must be F32, F16 or BF16"));
  }
  return absl::OkStatus();
}

absl::Status ReadShape(const Fields& fields, const Family& family, ModelConfig& config) {
  LUKV_ASSIGN_OR_RETURN(config.n_layers, fields.Int("num_hidden_layers"));
  LUKV_ASSIGN_OR_RETURN(config.n_heads, fields.Int("num_attention_heads"));
  LUKV_ASSIGN_OR_RETURN(config.n_kv_heads, fields.Int("num_key_value_heads", config.n_heads));
  LUKV_ASSIGN_OR_RETURN(config.hidden, fields.Int("hidden_size"));
  LUKV_ASSIGN_OR_RETURN(config.ffn, fields.Int("intermediate_size"));
  LUKV_ASSIGN_OR_RETURN(config.vocabulary, fields.Int("vocab_size"));
  LUKV_ASSIGN_OR_RETURN(config.context_length, fields.Int("max_position_embeddings"));
  const int32_t even_share = config.n_heads > 0 ? config.hidden / config.n_heads : 0;
  LUKV_ASSIGN_OR_RETURN(config.head_dim,
                        fields.Int("head_dim", family.default_head_dim != 0 ? family.default_head_dim : even_share));
  LUKV_ASSIGN_OR_RETURN(config.norm_epsilon, fields.Float("rms_norm_eps", 1e-6f));
  LUKV_ASSIGN_OR_RETURN(config.tied_embeddings, fields.Bool("tie_word_embeddings", false));
  config.qk_norm = family.qk_norm;
  if (family.attention_bias_field) {
    LUKV_ASSIGN_OR_RETURN(config.output_bias, fields.Bool("attention_bias", false));
  }
  config.qkv_bias = family.always_qkv_bias || config.output_bias;
  if (family.mlp_bias_field) {
    LUKV_ASSIGN_OR_RETURN(config.mlp_bias, fields.Bool("mlp_bias", false));
  }
  return absl::OkStatus();
}

// The one window of all layers, or none. Layers [first_sliding, n_layers) have it where the config lists no types.
absl::Status ReadWindow(const Fields& fields, const Family& family, const json& root, ModelConfig& config) {
  int32_t window = 0;
  int32_t first_sliding = 0;
  // Mistral's null means "no window", so that null and missing differ here.
  if (root.contains("sliding_window")) {
    LUKV_ASSIGN_OR_RETURN(window, fields.Int("sliding_window", 0));
  } else {
    window = family.default_window;
  }
  if (family.window_has_switch) {
    LUKV_ASSIGN_OR_RETURN(const bool on, fields.Bool("use_sliding_window", false));
    if (!on) window = 0;
    LUKV_ASSIGN_OR_RETURN(first_sliding, fields.Int("max_window_layers", 28));
  }
  int32_t n_sliding = window > 0 ? std::max(0, config.n_layers - first_sliding) : 0;
  if (const json* types = fields.Find("layer_types"); types != nullptr) {
    if (!types->is_array()) return absl::InvalidArgumentError(StrCat("\"layer_types\" is ", Shown(*types)));
    n_sliding = 0;
    for (const json& type : *types) {
      if (type == "sliding_attention") {
        ++n_sliding;
      } else if (type != "full_attention") {
        return absl::UnimplementedError(
            StrCat("layer type ", Shown(type), " is not supported; only full_attention and sliding_attention are"));
      }
    }
    if (types->size() != static_cast<size_t>(config.n_layers)) {
      return absl::InvalidArgumentError(
          StrCat("\"layer_types\" lists ", types->size(), " layers of ", config.n_layers));
    }
    if (n_sliding > 0 && window == 0) {
      return absl::InvalidArgumentError("\"layer_types\" lists sliding_attention, but there is no sliding_window");
    }
  }
  if (n_sliding > 0 && n_sliding < config.n_layers) {
    return absl::UnimplementedError(StrCat("sliding attention in ", n_sliding, " of ", config.n_layers,
                                           " layers is not supported; all layers or none must have it"));
  }
  config.sliding_window = n_sliding > 0 ? window : 0;
  return absl::OkStatus();
}

absl::Status RefusePartialRotary(const Fields& fields) {
  LUKV_ASSIGN_OR_RETURN(const float share, fields.Float("partial_rotary_factor", 1.0f));
  if (share == 1.0f) return absl::OkStatus();
  return absl::UnimplementedError(StrCat("partial_rotary_factor ", share, " is not supported; only 1 is"));
}

absl::Status ReadRope(const Fields& fields, ModelConfig& config) {
  // Settings under rope_scaling (older) win over rope_parameters (newer), as in transformers.
  const json* settings = nullptr;
  const char* where = "";
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const json* found = fields.Find(key);
    if (found == nullptr) continue;
    if (!found->is_object()) return absl::InvalidArgumentError(StrCat("\"", key, "\" is ", Shown(*found)));
    if (found->empty()) continue;
    settings = found;
    where = key;
  }
  const json empty = json::object();
  const Fields rope(settings != nullptr ? *settings : empty, StrCat(where, "."));
  if (settings != nullptr) {
    for (const auto& [name, value] : settings->items()) {
      if (value.is_object()) {
        return absl::UnimplementedError(
            StrCat("\"", where, "\" differs by layer type (", Quoted(name), "), which is not supported"));
      }
    }
  }
  LUKV_RETURN_IF_ERROR(RefusePartialRotary(fields));
  LUKV_RETURN_IF_ERROR(RefusePartialRotary(rope));
  LUKV_ASSIGN_OR_RETURN(const float base, fields.Float("rope_theta", 10000.0f));
  LUKV_ASSIGN_OR_RETURN(config.rope_base, rope.Float("rope_theta", base));
  LUKV_ASSIGN_OR_RETURN(const std::string older_type, rope.String("type", "default"));
  LUKV_ASSIGN_OR_RETURN(const std::string type, rope.String("rope_type", older_type));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return absl::UnimplementedError(
        StrCat("rope type ", Quoted(type), " is not supported; supported are default, linear, llama3"));
  }
  LUKV_ASSIGN_OR_RETURN(config.rope_factor, rope.Float("factor"));
  config.rope_scaling = RopeScaling::kLinear;
  if (type == "linear") return absl::OkStatus();
  config.rope_scaling = RopeScaling::kLlama3;
  LUKV_ASSIGN_OR_RETURN(config.rope_low_frequency_factor, rope.Float("low_freq_factor"));
  LUKV_ASSIGN_OR_RETURN(config.rope_high_frequency_factor, rope.Float("high_freq_factor"));
  LUKV_ASSIGN_OR_RETURN(const int32_t inner, rope.Int("original_max_position_embeddings", config.context_length));
  LUKV_ASSIGN_OR_RETURN(config.rope_original_context, fields.Int("original_max_position_embeddings", inner));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromHfJson(const json& root, const std::string& name) {
  if (!root.is_object()) return absl::InvalidArgumentError("is not a JSON object");
  const Fields fields(root, "");
  LUKV_ASSIGN_OR_RETURN(const Family family, FindFamily(root, fields));
  LUKV_RETURN_IF_ERROR(RefuseUnsupported(fields));
  ModelConfig config;
  config.architecture = std::string(family.model_type);
  config.name = name;
  config.rope_layout = RopeLayout::kHalfSplit;
  LUKV_RETURN_IF_ERROR(ReadShape(fields, family, config));
  LUKV_RETURN_IF_ERROR(ReadWindow(fields, family, root, config));
  LUKV_RETURN_IF_ERROR(ReadRope(fields, config));
  LUKV_RETURN_IF_ERROR(config.Validate());
  return config;
}

}  // namespace lukv
