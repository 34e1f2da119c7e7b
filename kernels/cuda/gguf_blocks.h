// Reading GGUF's quantised blocks as they lie in the file. Layouts and formulas as in kernels/dequantize.cc, whose
// values these are. Blocks are a whole number of 16-bit words long, and rows begin at even addresses.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/dtype.h"

namespace lukv::cuda {

// Values that are unpacked at a time.
inline constexpr int kUnpacked = 32;

// `n` words of 32 bits at an even address.
template <int n>
LUKV_DEVICE void LoadWords(const uint8_t* bytes, uint32_t (&words)[n]) {
  const uint16_t* const halves = reinterpret_cast<const uint16_t*>(bytes);
#pragma unroll
  for (int i = 0; i < n; ++i) words[i] = halves[2 * i] | (static_cast<uint32_t>(halves[2 * i + 1]) << 16);
}

LUKV_DEVICE float LoadHalf(const uint8_t* bytes) { return __half2float(*reinterpret_cast<const __half*>(bytes)); }

LUKV_DEVICE int ByteOf(uint32_t word, int i) { return static_cast<int>((word >> (8 * i)) & 0xffu); }

// The j-th of the 8 pairs of 6-bit scale and minimum in 12 bytes.
LUKV_DEVICE void SixBitPair(const uint8_t* packed, int j, float* scale, float* minimum) {
  if (j < 4) {
    *scale = static_cast<float>(packed[j] & 63);
    *minimum = static_cast<float>(packed[j + 4] & 63);
  } else {
    *scale = static_cast<float>((packed[j + 4] & 0x0f) | ((packed[j - 4] >> 6) << 4));
    *minimum = static_cast<float>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

// Nibbles of 16 bytes: value i is the low one of byte i, value i + 16 the high one; scale * (nibble - kZero) + offset.
template <int kZero>
LUKV_DEVICE void UnpackNibbles(const uint8_t* quants, float scale, float offset, float (&values)[kUnpacked]) {
  uint32_t words[4];
  LoadWords(quants, words);
#pragma unroll
  for (int i = 0; i < kUnpacked / 2; ++i) {
    const int byte = ByteOf(words[i / 4], i % 4);
    const auto low = static_cast<float>((byte & 0x0f) - kZero);
    const auto high = static_cast<float>((byte >> 4) - kZero);
    // Without a sum where there is no offset: -0 + 0 would be 0.
    values[i] = kZero != 0 ? scale * low : fmaf(scale, low, offset);
    values[i + kUnpacked / 2] = kZero != 0 ? scale * high : fmaf(scale, high, offset);
  }
}

// Block `block` of 32 values of a row. The three K types have 8 of them in a super block.
template <DType kType>
LUKV_DEVICE void UnpackBlock(const uint8_t* row, int64_t block, float (&values)[kUnpacked]) {
  if constexpr (kType == DType::kQ4_0) {
    const uint8_t* const b = row + block * 18;
    UnpackNibbles<8>(b + 2, LoadHalf(b), 0.0f, values);
  } else if constexpr (kType == DType::kQ4_1) {
    const uint8_t* const b = row + block * 20;
    UnpackNibbles<0>(b + 4, LoadHalf(b), LoadHalf(b + 2), values);
  } else if constexpr (kType == DType::kQ8_0) {
    const uint8_t* const b = row + block * 34;
    const float scale = LoadHalf(b);
    uint32_t words[8];
    LoadWords(b + 2, words);
#pragma unroll
    for (int i = 0; i < kUnpacked; ++i) {
      values[i] = scale * static_cast<float>(static_cast<int8_t>(ByteOf(words[i / 4], i % 4)));
    }
  } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
    constexpr bool kFive = kType == DType::kQ5_K;
    const uint8_t* const b = row + block / 8 * (kFive ? 176 : 144);
    const int group = static_cast<int>(block % 8);
    float scale;
    float minimum;
    SixBitPair(b + 4, group, &scale, &minimum);
    scale *= LoadHalf(b);
    minimum *= -LoadHalf(b + 2);
    uint32_t words[8];
    uint32_t high[8] = {};
    LoadWords(b + (kFive ? 48 : 16) + 32 * (group / 2), words);
    if constexpr (kFive) LoadWords(b + 16, high);
    const int shift = group % 2 * 4;
#pragma unroll
    for (int i = 0; i < kUnpacked; ++i) {
      const int low = (ByteOf(words[i / 4], i % 4) >> shift) & 0x0f;
      const int fifth = (ByteOf(high[i / 4], i % 4) >> group) & 1;
      values[i] = fmaf(scale, static_cast<float>(low | (fifth << 4)), minimum);
    }
  } else {
    static_assert(kType == DType::kQ6_K);
    const uint8_t* const b = row + block / 8 * 210;
    const int half = static_cast<int>(block % 8) / 4;
    const int group = static_cast<int>(block % 4);
    const float scale = LoadHalf(b + 208);
    const int8_t* const scales = reinterpret_cast<const int8_t*>(b + 192 + 8 * half + 2 * group);
    uint32_t words[8];
    uint32_t high[8];
    LoadWords(b + 64 * half + 32 * (group % 2), words);
    LoadWords(b + 128 + 32 * half, high);
#pragma unroll
    for (int i = 0; i < kUnpacked; ++i) {
      const int low = (ByteOf(words[i / 4], i % 4) >> (group / 2 * 4)) & 0x0f;
      const int top = (ByteOf(high[i / 4], i % 4) >> (2 * group)) & 3;
      values[i] = scale * static_cast<float>(scales[i / 16]) * static_cast<float>((low | (top << 4)) - 32);
    }
  }
}

}  // namespace lukv::cuda
