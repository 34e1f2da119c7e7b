#include "engine/model/model_config.h"

#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/status_macros.h"
#include "base/str_cat.h"

namespace lukv {
namespace {

absl::Status CheckRange(const char* field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(field, " is ", value, "; must be in [", least, ", ", most, "]"));
}

absl::Status CheckPositive(const char* field, float value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(field, " is ", value, "; must be finite and above 0"));
}

absl::Status CheckRope(const ModelConfig& config) {
  LUKV_RETURN_IF_ERROR(CheckPositive("rope_base", config.rope_base));
  LUKV_RETURN_IF_ERROR(CheckPositive("rope_factor", config.rope_factor));
  if (config.rope_scaling == RopeScaling::kLlama3) {
    LUKV_RETURN_IF_ERROR(CheckPositive("rope_low_frequency_factor", config.rope_low_frequency_factor));
    LUKV_RETURN_IF_ERROR(CheckPositive("rope_high_frequency_factor", config.rope_high_frequency_factor));
    if (config.rope_high_frequency_factor <= config.rope_low_frequency_factor) {
      return absl::InvalidArgumentError(StrCat("rope_high_frequency_factor is ", config.rope_high_frequency_factor,
                                               "; must be above rope_low_frequency_factor, which is ",
                                               config.rope_low_frequency_factor));
    }
    LUKV_RETURN_IF_ERROR(CheckRange("rope_original_context", config.rope_original_context, 1, INT32_MAX));
  }
  if (!config.rope_divisors.empty()) {
    const int64_t wanted = config.head_dim / 2;
    LUKV_RETURN_IF_ERROR(
        CheckRange("the number of rope_divisors", static_cast<int64_t>(config.rope_divisors.size()), wanted, wanted));
    for (const float divisor : config.rope_divisors) {
      LUKV_RETURN_IF_ERROR(CheckPositive("a value of rope_divisors", divisor));
    }
  }
  return absl::OkStatus();
}

// The piecewise rule of Llama 3.1 (transformers, modeling_rope_utils.py, _compute_llama3_parameters): high frequencies
// stay, low ones are divided by factor, between the two bounds the rotation is interpolated.
double ScaleLlama3(const ModelConfig& config, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double context = config.rope_original_context;
  const double low = config.rope_low_frequency_factor;
  const double high = config.rope_high_frequency_factor;
  if (wavelength < context / high) return frequency;
  if (wavelength > context / low) return frequency / config.rope_factor;
  const double smooth = (context / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / config.rope_factor + smooth * frequency;
}

}  // namespace

absl::Status ModelConfig::Validate() const {
  // The upper bounds lie well above every published model; they keep products of two fields inside 64 bits.
  LUKV_RETURN_IF_ERROR(CheckRange("n_layers", n_layers, 1, 4096));
  LUKV_RETURN_IF_ERROR(CheckRange("n_heads", n_heads, 1, 4096));
  LUKV_RETURN_IF_ERROR(CheckRange("n_kv_heads", n_kv_heads, 1, n_heads));
  if (n_heads % n_kv_heads != 0) {
    return absl::InvalidArgumentError(
        StrCat("n_heads is ", n_heads, "; must be a multiple of n_kv_heads, which is ", n_kv_heads));
  }
  LUKV_RETURN_IF_ERROR(CheckRange("head_dim", head_dim, 2, 4096));
  if (head_dim % 2 != 0) return absl::InvalidArgumentError(StrCat("head_dim is ", head_dim, "; must be even"));
  LUKV_RETURN_IF_ERROR(CheckRange("hidden", hidden, 1, 1 << 20));
  LUKV_RETURN_IF_ERROR(CheckRange("ffn", ffn, 1, 1 << 22));
  LUKV_RETURN_IF_ERROR(CheckRange("vocabulary", vocabulary, 1, 1 << 24));
  LUKV_RETURN_IF_ERROR(CheckRange("context_length", context_length, 1, 1 << 28));
  LUKV_RETURN_IF_ERROR(CheckRange("sliding_window", sliding_window, 0, INT32_MAX));
  LUKV_RETURN_IF_ERROR(CheckPositive("norm_epsilon", norm_epsilon));
  return CheckRope(*this);
}

std::vector<float> InverseFrequencies(const ModelConfig& config) {
  const int32_t n = config.head_dim / 2;
  LUKV_CHECK(config.rope_divisors.empty() || config.rope_divisors.size() == static_cast<size_t>(n));
  std::vector<float> result(n);
  for (int32_t i = 0; i < n; ++i) {
    double frequency = std::pow(static_cast<double>(config.rope_base), -2.0 * i / config.head_dim);
    switch (config.rope_scaling) {
      case RopeScaling::kNone:
        break;
      case RopeScaling::kLinear:
        frequency /= config.rope_factor;
        break;
      case RopeScaling::kLlama3:
        frequency = ScaleLlama3(config, frequency);
        break;
    }
    if (!config.rope_divisors.empty()) frequency /= config.rope_divisors[i];
    result[i] = static_cast<float>(frequency);
  }
  return result;
}

}  // namespace lukv
