// GGUF files of tiny models, made in memory.
#pragma once

#include <string>

#include "engine/model/weight_source.h"
#include "tests/engine/model/gguf_builder.h"

namespace lukv {

// The metadata of a llama model of 1 layer, 2 query heads over 1 kv head of 4, hidden 8, ffn 6, 5 tokens.
GgufBuilder TinyLlamaMetadata();
// And its tensors, F32, head tied.
void AddTinyLlamaTensors(GgufBuilder& builder);
std::string TinyLlama();

// What llama.cpp's converter makes of a Hugging Face folder: names of keys and tensors by architecture, rows of q and k
// permuted for the llama architecture, llama3 RoPE scaling as divisors in a tensor.
std::string ConvertToGguf(const WeightSource& source);

}  // namespace lukv
