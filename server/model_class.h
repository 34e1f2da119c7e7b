// What other programs call the model families.
#pragma once

#include <string>
#include <string_view>

namespace lukv {

// The class of transformers for ModelConfig::architecture: "LlamaForCausalLM".
inline std::string ModelClass(std::string_view architecture) {
  if (architecture == "mistral") return "MistralForCausalLM";
  if (architecture == "qwen2") return "Qwen2ForCausalLM";
  if (architecture == "qwen3") return "Qwen3ForCausalLM";
  return "LlamaForCausalLM";
}

}  // namespace lukv
