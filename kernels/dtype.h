// Element types of weights, activations and the KV cache, and a read-only view of a weight tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lukv {

// The quantised types are those of GGUF (ggml block formats). Activations are kF32; KV pages are kF32 or kBF16.
enum class DType : uint8_t { kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K };

struct DTypeTraits {
  std::string_view name;   // As GGUF prints it: "F32", "Q4_1", "Q4_K".
  int32_t block_elements;  // Elements that share one block (1 for float types).
  int32_t block_bytes;
};

// Never fails: every enumerator has traits.
const DTypeTraits& Traits(DType dtype);

// Bytes of a row of `cols` elements. REQUIRES: cols is a multiple of the type's block_elements.
size_t RowBytes(DType dtype, int64_t cols);

// A row-major matrix of weights that somebody else owns (usually a mapped file). A vector has rows == 1.
// For a linear layer: rows = output features, cols = input features.
struct TensorView {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;  // rows * RowBytes(dtype, cols) bytes; may be unaligned for the element type.
};

// Writes `n` elements of `src` as f32. Exact for float types; for quantised types the values of the ggml formats.
// REQUIRES: n is a multiple of the type's block_elements. Thread-safe.
void Dequantize(DType dtype, const std::byte* src, int64_t n, float* dst);

}  // namespace lukv
