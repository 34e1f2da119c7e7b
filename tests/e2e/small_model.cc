// Writes a GGUF file of a small model with random weights, for servers that a sanitizer makes slow: what such a server
// does between requests is real, what the model says is noise.
// usage: lukv_small_model FILE
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>

#include "base/file.h"
#include "tests/engine/model/gguf_builder.h"
#include "tests/fuzz/tiny_tokenizers.h"

namespace lukv {
namespace {

constexpr uint32_t kLayers = 3;
constexpr uint32_t kHeads = 2;
constexpr uint32_t kKvHeads = 1;
constexpr uint32_t kHeadDim = 32;
constexpr uint32_t kHidden = kHeads * kHeadDim;
constexpr uint32_t kFfn = 96;

class SmallModel {
 public:
  SmallModel() {
    const uint64_t vocabulary = AddTinyByteLevelTokens(builder_);
    builder_.AddString("general.architecture", "llama")
        .AddString("general.name", "small")
        .Add("llama.block_count", kLayers)
        .Add("llama.context_length", uint32_t{2048})
        .Add("llama.embedding_length", kHidden)
        .Add("llama.feed_forward_length", kFfn)
        .Add("llama.attention.head_count", kHeads)
        .Add("llama.attention.head_count_kv", kKvHeads)
        .Add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    AddMatrix("token_embd.weight", vocabulary, kHidden);
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const std::string prefix = "blk." + std::to_string(layer) + ".";
      AddNorm(prefix + "attn_norm.weight");
      AddMatrix(prefix + "attn_q.weight", kHeads * kHeadDim, kHidden);
      AddMatrix(prefix + "attn_k.weight", kKvHeads * kHeadDim, kHidden);
      AddMatrix(prefix + "attn_v.weight", kKvHeads * kHeadDim, kHidden);
      AddMatrix(prefix + "attn_output.weight", kHidden, kHeads * kHeadDim);
      AddNorm(prefix + "ffn_norm.weight");
      AddMatrix(prefix + "ffn_gate.weight", kFfn, kHidden);
      AddMatrix(prefix + "ffn_up.weight", kFfn, kHidden);
      AddMatrix(prefix + "ffn_down.weight", kHidden, kFfn);
    }
    AddNorm("output_norm.weight");
  }

  std::string Build() const { return builder_.Build(); }

 private:
  void AddMatrix(const std::string& name, uint64_t rows, uint64_t cols) {
    std::string data;
    for (uint64_t i = 0; i < rows * cols; ++i) data += Bytes(0.3f * Next());
    builder_.AddTensor(name, kGgufF32, {cols, rows}, data);
  }
  void AddNorm(const std::string& name) {
    std::string data;
    for (uint32_t i = 0; i < kHidden; ++i) data += Bytes(1.0f);
    builder_.AddTensor(name, kGgufF32, {kHidden}, data);
  }
  // Of [-1, 1).
  float Next() { return static_cast<float>(random_() >> 40) / static_cast<float>(1 << 23) - 1.0f; }

  GgufBuilder builder_;
  std::mt19937_64 random_;
};

}  // namespace
}  // namespace lukv

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: lukv_small_model FILE\n");
    return 2;
  }
  const absl::Status written = lukv::WriteWholeFile(argv[1], lukv::SmallModel().Build());
  if (!written.ok()) std::fprintf(stderr, "%s\n", written.ToString().c_str());
  return written.ok() ? 0 : 1;
}
