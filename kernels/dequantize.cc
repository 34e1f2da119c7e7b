// Formulas and block layouts: ggml's block structs (ggml-common.h) and their reference dequantisation
// (ggml-quants.c); checked bit for bit against the gguf Python package (tests/golden/dequantize). Each value takes one
// rounding at most in its last operation (scales times quants are exact in f32), so contraction to FMA changes nothing.
#include <bit>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "kernels/dtype.h"
#include "kernels/float16.h"

namespace lukv {
namespace {

static_assert(std::endian::native == std::endian::little, "weights are read as they lie in the file: little-endian");

constexpr int kBlock = 32;  // Elements of a block of the simple types.

uint16_t LoadU16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* p) { return HalfToFloat(LoadU16(p)); }

// {f16 scale; u8 quants[16]}: element i is the low nibble of byte i, element i + 16 its high nibble.
void DequantizeQ4_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint8_t* quants = block + 2;
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>((quants[i] & 0x0f) - 8);
    out[i + kBlock / 2] = scale * static_cast<float>((quants[i] >> 4) - 8);
  }
}

// {f16 scale; f16 minimum; u8 quants[16]}
void DequantizeQ4_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* quants = block + 4;
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(quants[i] & 0x0f) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>(quants[i] >> 4) + minimum;
  }
}

// {f16 scale; i8 quants[32]}
void DequantizeQ8_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < kBlock; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * scale;
}

struct ScaleMin {
  float scale;
  float minimum;
};

// The j-th of the 8 (6-bit scale, 6-bit minimum) pairs that Q4_K and Q5_K pack into 12 bytes: pairs 0..3 in the low six
// bits of bytes j and j + 4; pairs 4..7 in the nibbles of byte j + 4, with their two top bits in bytes j - 4 and j.
ScaleMin UnpackScaleMin(const uint8_t* packed, ptrdiff_t j) {
  if (j < 4) return {static_cast<float>(packed[j] & 63), static_cast<float>(packed[j + 4] & 63)};
  const int scale = (packed[j + 4] & 0x0f) | ((packed[j - 4] >> 6) << 4);
  const int minimum = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

// {f16 scale; f16 minimum; u8 packed[12]; u8 quants[128]}: 8 groups of 32; groups 2c and 2c + 1 are the low and high
// nibbles of quants[32c, 32c + 32).
void DequantizeQ4_K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* quants = block + 16;
  for (ptrdiff_t group = 0; group < 8; ++group) {
    const ScaleMin sm = UnpackScaleMin(packed, group);
    const float d = scale * sm.scale;
    const float m = minimum * sm.minimum;
    const uint8_t* q = quants + 32 * (group / 2);
    const int shift = group % 2 == 0 ? 0 : 4;
    for (int i = 0; i < 32; ++i) out[32 * group + i] = d * static_cast<float>((q[i] >> shift) & 0x0f) - m;
  }
}

// As Q4_K with u8 high[32] before the quants: bit `group` of high[i] is the fifth bit of element i of that group.
void DequantizeQ5_K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* high = block + 16;
  const uint8_t* quants = block + 48;
  for (ptrdiff_t group = 0; group < 8; ++group) {
    const ScaleMin sm = UnpackScaleMin(packed, group);
    const float d = scale * sm.scale;
    const float m = minimum * sm.minimum;
    const uint8_t* q = quants + 32 * (group / 2);
    const int shift = group % 2 == 0 ? 0 : 4;
    for (int i = 0; i < 32; ++i) {
      const int value = ((q[i] >> shift) & 0x0f) | (((high[i] >> group) & 1) << 4);
      out[32 * group + i] = d * static_cast<float>(value) - m;
    }
  }
}

// {u8 low[128]; u8 high[64]; i8 scales[16]; f16 scale}: two halves of 128 elements; in a half, group g of 32 takes
// nibble g / 2 of low[32 * (g % 2) + i] and the bit pair g of high[i]; a scale serves 16 elements.
void DequantizeQ6_K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block + 208);
  for (ptrdiff_t half = 0; half < 2; ++half) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    const uint8_t* scales = block + 192 + 8 * half;
    for (ptrdiff_t group = 0; group < 4; ++group) {
      for (int i = 0; i < 32; ++i) {
        const float d = scale * static_cast<float>(static_cast<int8_t>(scales[2 * group + i / 16]));
        const int nibble = (low[32 * (group % 2) + i] >> (4 * (group / 2))) & 0x0f;
        const int value = nibble | (((high[i] >> (2 * group)) & 3) << 4);
        out[128 * half + 32 * group + i] = d * static_cast<float>(value - 32);
      }
    }
  }
}

template <typename Body>
void ForEachBlock(DType dtype, const uint8_t* src, int64_t n, float* dst, Body body) {
  const DTypeTraits& traits = Traits(dtype);
  LUKV_CHECK(n >= 0 && n % traits.block_elements == 0);
  for (int64_t i = 0; i < n; i += traits.block_elements) {
    body(src, dst + i);
    src += traits.block_bytes;
  }
}

}  // namespace

void Dequantize(DType dtype, const std::byte* src, int64_t n, float* dst) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(src);
  switch (dtype) {
    case DType::kF32:
      LUKV_CHECK(n >= 0);
      if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) dst[i] = LoadHalf(bytes + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) dst[i] = Bf16ToFloat(LoadU16(bytes + 2 * i));
      return;
    case DType::kQ4_0:
      return ForEachBlock(dtype, bytes, n, dst, DequantizeQ4_0);
    case DType::kQ4_1:
      return ForEachBlock(dtype, bytes, n, dst, DequantizeQ4_1);
    case DType::kQ8_0:
      return ForEachBlock(dtype, bytes, n, dst, DequantizeQ8_0);
    case DType::kQ4_K:
      return ForEachBlock(dtype, bytes, n, dst, DequantizeQ4_K);
    case DType::kQ5_K:
      return ForEachBlock(dtype, bytes, n, dst, DequantizeQ5_K);
    case DType::kQ6_K:
      return ForEachBlock(dtype, bytes, n, dst, DequantizeQ6_K);
  }
  LUKV_CHECK(false);
}

}  // namespace lukv
