// Seeded random weight tensors of every type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/dtype.h"

namespace lukv {

struct RandomTensor {
  TensorView view() const { return {.dtype = dtype, .rows = rows, .cols = cols, .data = bytes.data() + 1}; }
  // What Dequantize makes of it, [rows, cols].
  std::vector<float> values() const;

  DType dtype;
  int64_t rows;
  int64_t cols;
  std::vector<std::byte> bytes;  // The tensor begins at byte 1: views may be unaligned.
};

// Codes are uniformly random, scales have random signs and sizes around 0.05.
RandomTensor MakeRandomTensor(DType dtype, int64_t rows, int64_t cols, std::mt19937& random);

}  // namespace lukv
