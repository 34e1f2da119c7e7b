#include "engine/model/fingerprint.h"

#include <bit>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/fnv.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

absl::Status AddNorm(const WeightSource& source, const std::string& name, Fnv1a64& hash) {
  LUKV_ASSIGN_OR_RETURN(const TensorView norm, source.Tensor(name));
  std::vector<float> values(static_cast<size_t>(norm.rows * norm.cols));
  Dequantize(norm.dtype, norm.data, norm.rows * norm.cols, values.data());
  for (const float value : values) hash.Add(std::bit_cast<uint32_t>(value));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ModelFingerprint(const WeightSource& source) {
  const ModelConfig& c = source.config();
  Fnv1a64 hash;
  for (const int32_t value : {c.n_layers, c.n_heads, c.n_kv_heads, c.head_dim, c.hidden, c.ffn, c.vocabulary}) {
    hash.Add(static_cast<uint64_t>(value));
  }
  LUKV_RETURN_IF_ERROR(AddNorm(source, "output_norm.weight", hash));
  for (int32_t layer = 0; layer < c.n_layers; ++layer) {
    LUKV_RETURN_IF_ERROR(AddNorm(source, absl::StrCat("blk.", layer, ".attn_norm.weight"), hash));
  }
  return absl::StrFormat("%s-%dx%dx%d-%016x", c.architecture == "mistral" ? "llama" : c.architecture, c.n_layers,
                         c.n_kv_heads, c.head_dim, hash.value());
}

}  // namespace lukv
