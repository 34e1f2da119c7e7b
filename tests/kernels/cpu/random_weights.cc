#include "tests/kernels/cpu/random_weights.h"

#include <cstring>
#include <initializer_list>

#include "kernels/float16.h"

namespace lukv {
namespace {

// The byte offsets of the f16 fields in a block (ggml-common.h).
std::vector<size_t> HalfFields(DType dtype) {
  switch (dtype) {
    case DType::kF16:
    case DType::kQ4_0:
    case DType::kQ8_0:
      return {0};
    case DType::kQ4_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ6_K:
      return {208};
    case DType::kF32:
    case DType::kBF16:
      return {};
  }
  return {};
}

// Either sign, 2^-7 to 2^-3.
uint16_t RandomHalf(std::mt19937& random) {
  const uint32_t bits = random();
  const uint32_t exponent = 8 + (bits >> 16) % 4;
  return static_cast<uint16_t>((bits & 0x83ffu) | (exponent << 10));
}

}  // namespace

std::vector<float> RandomTensor::values() const {
  std::vector<float> result(static_cast<size_t>(rows * cols));
  Dequantize(dtype, view().data, rows * cols, result.data());
  return result;
}

RandomTensor MakeRandomTensor(DType dtype, int64_t rows, int64_t cols, std::mt19937& random) {
  RandomTensor tensor{.dtype = dtype, .rows = rows, .cols = cols, .bytes = {}};
  const size_t size = static_cast<size_t>(rows) * RowBytes(dtype, cols);
  tensor.bytes.resize(size + 1);
  std::byte* data = tensor.bytes.data() + 1;
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<std::byte>(random() & 0xff);
  std::normal_distribution<float> normal;
  const size_t block_bytes = static_cast<size_t>(Traits(dtype).block_bytes);
  for (size_t block = 0; block < size; block += block_bytes) {
    if (dtype == DType::kF32) {
      const float value = normal(random);
      std::memcpy(data + block, &value, sizeof(value));
    } else if (dtype == DType::kBF16) {
      const uint16_t value = FloatToBf16(normal(random));
      std::memcpy(data + block, &value, sizeof(value));
    }
    for (const size_t field : HalfFields(dtype)) {
      const uint16_t value = RandomHalf(random);
      std::memcpy(data + block + field, &value, sizeof(value));
    }
  }
  return tensor;
}

}  // namespace lukv
