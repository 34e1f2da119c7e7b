// Where a model's weights come from: a GGUF file or a Hugging Face folder, behind one set of names (those of GGUF:
// "token_embd.weight", "blk.7.attn_q.weight", "blk.7.attn_q.bias", "blk.7.attn_q_norm.weight", "output_norm.weight",
// "output.weight", ...).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/model_config.h"
#include "kernels/dtype.h"

namespace lukv {

class GgufFile;

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelConfig& config() const = 0;
  // NOT_FOUND by name; INVALID_ARGUMENT when the shape is not what config() asks for. Views live as long as the source.
  virtual absl::StatusOr<TensorView> Tensor(std::string_view name) const = 0;
  virtual bool Has(std::string_view name) const = 0;
  virtual size_t file_bytes() const = 0;
  // Who has copied what it read need not hold it in memory a second time. Views stay good: what is read again comes
  // from the file again.
  virtual void LetGo() const {}
  // The file behind it, for the tokenizer; null for a folder.
  virtual const GgufFile* gguf() const { return nullptr; }
};

// `path` is a .gguf file or a folder with config.json and *.safetensors. Every tensor that config() asks for is checked
// for presence and shape here, so that a damaged model is refused at start with the tensor's name. NOT_FOUND: nothing
// there. UNIMPLEMENTED: an architecture, scaling or tensor type that is not supported: says what was found and what is.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::string& path);

}  // namespace lukv
