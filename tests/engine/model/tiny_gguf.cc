#include "tests/engine/model/tiny_gguf.h"

#include <vector>

#include "base/check.h"
#include "kernels/dtype.h"

namespace lukv {
namespace {

void AddF32(GgufBuilder& builder, const std::string& name, uint64_t rows, uint64_t cols) {
  std::string data;
  for (uint64_t i = 0; i < rows * cols; ++i) data += Bytes(0.01f * static_cast<float>(i % 97) - 0.4f);
  const std::vector<uint64_t> dims = rows == 1 ? std::vector<uint64_t>{cols} : std::vector<uint64_t>{cols, rows};
  builder.AddTensor(name, kGgufF32, dims, data);
}

uint32_t TensorNumber(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kGgufF32;
    case DType::kF16:
      return kGgufF16;
    case DType::kBF16:
      return kGgufBF16;
    default:
      LUKV_CHECK(false);
  }
}

// Row r of the result is the row of `rows` that the half-split layout has in its place: pairs (i, i + D/2) become
// (2i, 2i + 1).
std::string Interleaved(const std::string& rows, size_t row_bytes, size_t head_dim) {
  std::string result;
  for (size_t r = 0; r < rows.size() / row_bytes; ++r) {
    const size_t head = r / head_dim * head_dim;
    const size_t i = r % head_dim;
    const size_t from = head + (i % 2 == 0 ? i / 2 : head_dim / 2 + i / 2);
    result += rows.substr(from * row_bytes, row_bytes);
  }
  return result;
}

void CopyTensor(const WeightSource& source, const std::string& name, bool permute, GgufBuilder& builder) {
  const auto view = source.Tensor(name);
  LUKV_CHECK(view.ok());
  const size_t row_bytes = RowBytes(view->dtype, view->cols);
  std::string data(reinterpret_cast<const char*>(view->data), row_bytes * static_cast<size_t>(view->rows));
  const auto head_dim = static_cast<size_t>(source.config().head_dim);
  if (permute) data = Interleaved(data, view->rows == 1 ? RowBytes(view->dtype, 1) : row_bytes, head_dim);
  std::vector<uint64_t> dims = {static_cast<uint64_t>(view->cols)};
  if (view->rows > 1) dims.push_back(static_cast<uint64_t>(view->rows));
  builder.AddTensor(name, TensorNumber(view->dtype), dims, data);
}

void AddRope(const ModelConfig& config, const std::string& prefix, GgufBuilder& builder) {
  builder.Add(prefix + "rope.freq_base", config.rope_base);
  builder.Add(prefix + "rope.dimension_count", static_cast<uint32_t>(config.head_dim));
  if (config.rope_scaling == RopeScaling::kLinear) {
    builder.AddString(prefix + "rope.scaling.type", "linear").Add(prefix + "rope.scaling.factor", config.rope_factor);
  } else if (config.rope_scaling == RopeScaling::kLlama3) {
    ModelConfig plain = config;
    plain.rope_scaling = RopeScaling::kNone;
    const std::vector<float> unscaled = InverseFrequencies(plain);
    const std::vector<float> scaled = InverseFrequencies(config);
    std::string divisors;
    for (size_t i = 0; i < scaled.size(); ++i) divisors += Bytes(unscaled[i] / scaled[i]);
    builder.AddTensor("rope_freqs.weight", kGgufF32, {scaled.size()}, divisors);
  }
}

}  // namespace

GgufBuilder TinyLlamaMetadata() {
  GgufBuilder builder;
  builder.AddString("general.architecture", "llama")
      .AddString("general.name", "tiny")
      .Add("llama.block_count", uint32_t{1})
      .Add("llama.context_length", uint32_t{64})
      .Add("llama.embedding_length", uint32_t{8})
      .Add("llama.feed_forward_length", uint32_t{6})
      .Add("llama.attention.head_count", uint32_t{2})
      .Add("llama.attention.head_count_kv", uint32_t{1})
      .Add("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .AddStrings("tokenizer.ggml.tokens", {"a", "b", "", "<|end|>", "ab"})
      .AddArray<int32_t>("tokenizer.ggml.token_type", {1, 1, 1, 3, 1})
      .Add("tokenizer.ggml.add_bos_token", false);
  return builder;
}

void AddTinyLlamaTensors(GgufBuilder& builder) {
  AddF32(builder, "token_embd.weight", 5, 8);
  AddF32(builder, "blk.0.attn_norm.weight", 1, 8);
  AddF32(builder, "blk.0.attn_q.weight", 8, 8);
  AddF32(builder, "blk.0.attn_k.weight", 4, 8);
  AddF32(builder, "blk.0.attn_v.weight", 4, 8);
  AddF32(builder, "blk.0.attn_output.weight", 8, 8);
  AddF32(builder, "blk.0.ffn_norm.weight", 1, 8);
  AddF32(builder, "blk.0.ffn_gate.weight", 6, 8);
  AddF32(builder, "blk.0.ffn_up.weight", 6, 8);
  AddF32(builder, "blk.0.ffn_down.weight", 8, 6);
  AddF32(builder, "output_norm.weight", 1, 8);
}

std::string TinyLlama() {
  GgufBuilder builder = TinyLlamaMetadata();
  AddTinyLlamaTensors(builder);
  return builder.Build();
}

std::string ConvertToGguf(const WeightSource& source) {
  const ModelConfig& config = source.config();
  const bool is_llama = config.architecture == "llama" || config.architecture == "mistral";
  const std::string architecture = is_llama ? "llama" : config.architecture;
  const std::string prefix = architecture + ".";
  GgufBuilder builder;
  builder.AddString("general.architecture", architecture)
      .Add(prefix + "block_count", static_cast<uint32_t>(config.n_layers))
      .Add(prefix + "context_length", static_cast<uint32_t>(config.context_length))
      .Add(prefix + "embedding_length", static_cast<uint32_t>(config.hidden))
      .Add(prefix + "feed_forward_length", static_cast<uint32_t>(config.ffn))
      .Add(prefix + "attention.head_count", static_cast<uint32_t>(config.n_heads))
      .Add(prefix + "attention.head_count_kv", static_cast<uint32_t>(config.n_kv_heads))
      .Add(prefix + "attention.key_length", static_cast<uint32_t>(config.head_dim))
      .Add(prefix + "attention.value_length", static_cast<uint32_t>(config.head_dim))
      .Add(prefix + "attention.layer_norm_rms_epsilon", config.norm_epsilon);
  if (config.sliding_window > 0) {
    builder.Add(prefix + "attention.sliding_window", static_cast<uint32_t>(config.sliding_window));
  }
  AddRope(config, prefix, builder);
  std::vector<std::string> names = {"token_embd.weight", "output_norm.weight", "output.weight"};
  for (int32_t layer = 0; layer < config.n_layers; ++layer) {
    for (const char* part : {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_q_norm", "attn_k_norm", "attn_output",
                             "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"}) {
      for (const char* kind : {".weight", ".bias"}) {
        names.push_back("blk." + std::to_string(layer) + "." + part + kind);
      }
    }
  }
  for (const std::string& name : names) {
    const bool rotated = name.find("attn_q.") != std::string::npos || name.find("attn_k.") != std::string::npos;
    if (source.Has(name)) CopyTensor(source, name, is_llama && rotated, builder);
  }
  return builder.Build();
}

}  // namespace lukv
