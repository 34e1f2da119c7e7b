// Arrays of 32-bit floats as NumPy stores them (format: numpy/lib/format.py, version 1.0), so that budget curves go
// from and to Python as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lukv {

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;  // C order, as many as the shape asks for.
};

// Little-endian f32 or f64 (rounded to f32) in C order and nothing else: INVALID_ARGUMENT says what the file has
// instead, or how it is damaged. Nothing that the file says about its size is believed before it is checked against the
// bytes that are there.
absl::StatusOr<NpyArray> ParseNpy(std::string_view file);

// REQUIRES: as many values as the shape says.
std::string SerializeNpy(const NpyArray& array);

}  // namespace lukv
