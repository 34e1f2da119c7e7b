#include "kernels/dtype.h"

#include "base/check.h"

namespace lukv {

const DTypeTraits& Traits(DType dtype) {
  // Block sizes and byte counts: ggml's block structs (block_q4_0 ... block_q6_K), sizes as the GGUF specification
  // gives them.
  static constexpr DTypeTraits kTraits[] = {
      {"F32", 1, 4},    {"F16", 1, 2},      {"BF16", 1, 2},     {"Q4_0", 32, 18},   {"Q4_1", 32, 20},
      {"Q8_0", 32, 34}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
  };
  return kTraits[static_cast<size_t>(dtype)];
}

size_t RowBytes(DType dtype, int64_t cols) {
  const DTypeTraits& traits = Traits(dtype);
  LUKV_CHECK(cols >= 0 && cols % traits.block_elements == 0);
  return static_cast<size_t>(cols / traits.block_elements) * static_cast<size_t>(traits.block_bytes);
}

}  // namespace lukv
