// Loads and stores of consecutive elements as floats: whole vectors where they are aligned, else one by one.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/mma.h"

namespace lukv::cuda {

// Elements of 16 bytes.
template <typename T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// Host: whether rows that lie row_bytes apart from `base` on begin at multiples of 16 bytes.
inline bool IsVectorAligned(const void* base, int64_t row_bytes) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && row_bytes % 16 == 0;
}

LUKV_DEVICE float LowBf16(uint32_t pair) { return __uint_as_float(pair << 16); }
LUKV_DEVICE float HighBf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// 16 bytes of elements as they are in memory: to be asked for early and looked at late.
template <typename T>
LUKV_DEVICE void UnpackVector(const uint4& raw, float (&to)[kVector<T>]) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      to[i] = __uint_as_float(words[i]);
    } else {
      to[2 * i] = LowBf16(words[i]);
      to[2 * i + 1] = HighBf16(words[i]);
    }
  }
}

// `from` is aligned to 16 bytes.
template <int kCount, typename T>
LUKV_DEVICE void LoadVector(const T* from, float (&to)[kCount]) {
  static_assert(kCount == kVector<T>);
  UnpackVector<T>(*reinterpret_cast<const uint4*>(from), to);
}
// `to` is aligned to kCount elements, at most to 16 bytes.
template <int kCount>
LUKV_DEVICE void StoreVector(const float (&from)[kCount], float* to) {
  static_assert(kCount % 4 == 0);
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    *reinterpret_cast<float4*>(to + i) = make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]);
  }
}
template <int kCount>
LUKV_DEVICE void StoreVector(const float (&from)[kCount], __nv_bfloat16* to) {
  static_assert(kCount % 4 == 0);
  if constexpr (kCount % 8 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 8) {
      *reinterpret_cast<uint4*>(to + i) =
          make_uint4(PackBf16(from[i], from[i + 1]), PackBf16(from[i + 2], from[i + 3]),
                     PackBf16(from[i + 4], from[i + 5]), PackBf16(from[i + 6], from[i + 7]));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      *reinterpret_cast<uint2*>(to + i) =
          make_uint2(PackBf16(from[i], from[i + 1]), PackBf16(from[i + 2], from[i + 3]));
    }
  }
}

// The first `count` of a vector's elements, zeros for the rest. `vectors`: all of them exist, and are aligned.
template <int kCount, typename T>
LUKV_DEVICE void LoadElements(const T* from, int count, bool vectors, float (&to)[kCount]) {
  if (vectors) {
    LoadVector(from, to);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = i < count ? ToFloat(from[i]) : 0.0f;
  }
}
template <typename T>
LUKV_DEVICE uint4 LoadRaw(const T* from, int count, bool vectors) {
  if (vectors) return *reinterpret_cast<const uint4*>(from);
  float elements[kVector<T>];
  LoadElements(from, count, false, elements);
  if constexpr (sizeof(T) == 4) {
    return make_uint4(__float_as_uint(elements[0]), __float_as_uint(elements[1]), __float_as_uint(elements[2]),
                      __float_as_uint(elements[3]));
  } else {
    return make_uint4(PackBf16(elements[0], elements[1]), PackBf16(elements[2], elements[3]),
                      PackBf16(elements[4], elements[5]), PackBf16(elements[6], elements[7]));
  }
}
// The first `count` of kCount elements. `vectors`: all of them are wanted, and are aligned.
template <int kCount, typename T>
LUKV_DEVICE void StoreElements(const float (&from)[kCount], int count, bool vectors, T* to) {
  if (vectors) {
    StoreVector(from, to);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) to[i] = FromFloat<T>(from[i]);
    }
  }
}

}  // namespace lukv::cuda
