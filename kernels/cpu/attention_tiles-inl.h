// The parts of attention.cc that touch K and V: bringing a tile of either into shape, and matrix products on
// registers. Included once per instruction set (Highway's foreach_target).
#if defined(LUKV_KERNELS_CPU_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LUKV_KERNELS_CPU_ATTENTION_TILES_INL_H_
#undef LUKV_KERNELS_CPU_ATTENTION_TILES_INL_H_
#else
#define LUKV_KERNELS_CPU_ATTENTION_TILES_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/vector_math-inl.h"

// Loops over registers must vanish; neither compiler's own heuristics are sure to.
#undef LUKV_UNROLL
#if defined(__clang__)
#define LUKV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LUKV_UNROLL _Pragma("GCC unroll 8")
#endif

// Highway 1.0.3 has no target with AVX512_BF16. Functions with this attribute are compiled for it beside AVX3_DL's and
// called where the CPU has it. They cannot be inlined into their callers, so each does a good piece of work.
#undef LUKV_HAVE_BF16_PRODUCTS
#undef LUKV_BF16_ATTR
#if HWY_TARGET == HWY_AVX3_DL
#define LUKV_HAVE_BF16_PRODUCTS 1
#define LUKV_BF16_ATTR __attribute__((noinline, target(HWY_TARGET_STR ",avx512bf16")))
#else
#define LUKV_HAVE_BF16_PRODUCTS 0
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// Width of a register tile in vectors: 6 x 4 accumulators, 4 loads and a broadcast fit 32 registers, 6 x 2 fit 16.
inline constexpr int kVectorsAtOnce = kLanes == 16 ? 4 : 2;

// What a register tile starts from.
enum class Start { kZero, kScaled };

// ---- Products --------------------------------------------------------------------------------------------------
//
// Products::Multiply<rows, vectors, start>: c[r][:] = (start == kScaled ? c[r][:] * factor[r] : 0) + sum over i < k of
// a[r][i] * b[i][:]. Every element of c is one chain of fused additions in ascending i, whatever the tile's shape.
// Strides are in words of a and elements of b.

// In f32. b may be bf16: it is converted on the way.
struct FloatProducts {
  using Word = float;
  static constexpr int32_t kPerWord = 1;

  template <int kRows, int kVectors, Start kStart, class B>
  static HWY_INLINE void Multiply(const float* HWY_RESTRICT a, size_t a_stride, const B* HWY_RESTRICT b,
                                  size_t b_stride, int32_t k, const float* HWY_RESTRICT factor, float* HWY_RESTRICT c,
                                  size_t c_stride) {
    const FloatTag d;
    FloatVec sums[kRows][kVectors];
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kStart == Start::kZero) {
          sums[r][v] = hn::Zero(d);
        } else {
          sums[r][v] = hn::Mul(hn::Load(d, c + r * c_stride + v * kLanes), hn::Set(d, factor[r]));
        }
      }
    }
    for (int32_t i = 0; i < k; ++i, b += b_stride) {
      FloatVec column[kVectors];
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) column[v] = LoadFloat(d, b + v * kLanes);
      LUKV_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const FloatVec row = hn::Set(d, a[r * a_stride + static_cast<size_t>(i)]);
        LUKV_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(row, column[v], sums[r][v]);
      }
    }
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) hn::Store(sums[r][v], d, c + r * c_stride + v * kLanes);
    }
  }
};

#if LUKV_HAVE_BF16_PRODUCTS
// A word is two bf16 values that follow each other in the direction of the sum, the first one in the lower half; a
// step adds both products to the f32 sum. Twice the rate of f32 on CPUs that have it.
struct PairProducts {
  using Word = uint32_t;
  static constexpr int32_t kPerWord = 2;

  template <int kRows, int kVectors, Start kStart, class B>
  LUKV_BF16_ATTR static void Multiply(const uint32_t* HWY_RESTRICT a, size_t a_stride, const B* HWY_RESTRICT b,
                                      size_t b_stride, int32_t k, const float* HWY_RESTRICT factor,
                                      float* HWY_RESTRICT c, size_t c_stride) {
    static_assert(std::is_same_v<B, uint32_t>);
    __m512 sums[kRows][kVectors];
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kStart == Start::kZero) {
          sums[r][v] = _mm512_setzero_ps();
        } else {
          sums[r][v] = _mm512_mul_ps(_mm512_load_ps(c + r * c_stride + v * kLanes), _mm512_set1_ps(factor[r]));
        }
      }
    }
    for (int32_t i = 0; i < k; ++i, b += b_stride) {
      __m512i column[kVectors];
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) column[v] = _mm512_load_si512(b + v * kLanes);
      LUKV_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const __m512i row = _mm512_set1_epi32(static_cast<int>(a[r * a_stride + static_cast<size_t>(i)]));
        LUKV_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          sums[r][v] =
              _mm512_dpbf16_ps(sums[r][v], reinterpret_cast<__m512bh>(row), reinterpret_cast<__m512bh>(column[v]));
        }
      }
    }
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) _mm512_store_ps(c + r * c_stride + v * kLanes, sums[r][v]);
    }
  }

  // Rounds kRows rows of f32 to words. n is rounded up to 32.
  template <int kRows>
  LUKV_BF16_ATTR static void Pack(const float* HWY_RESTRICT from, int32_t n, uint32_t* HWY_RESTRICT to) {
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r, from += kTileEntries, to += kTileEntries / kPerWord) {
      for (int32_t i = 0; i < n; i += 32) {
        const __m512bh words = _mm512_cvtne2ps_pbh(_mm512_load_ps(from + i + 16), _mm512_load_ps(from + i));
        _mm512_store_si512(to + i / kPerWord, reinterpret_cast<__m512i>(words));
      }
    }
  }
};
#endif

// Multiply for any number of vectors.
template <class Products, int kRows, Start kStart, class B>
HWY_INLINE void MultiplyPanel(const typename Products::Word* HWY_RESTRICT a, size_t a_stride, const B* HWY_RESTRICT b,
                              size_t b_stride, int32_t k, const float* HWY_RESTRICT factor, float* HWY_RESTRICT c,
                              size_t c_stride, int32_t vectors) {
  for (; vectors >= kVectorsAtOnce; vectors -= kVectorsAtOnce) {
    Products::template Multiply<kRows, kVectorsAtOnce, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
    b += kVectorsAtOnce * kLanes;
    c += kVectorsAtOnce * kLanes;
  }
  if (vectors == 1) Products::template Multiply<kRows, 1, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
  if constexpr (kVectorsAtOnce == 4) {
    if (vectors == 2) Products::template Multiply<kRows, 2, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
    if (vectors == 3) Products::template Multiply<kRows, 3, kStart>(a, a_stride, b, b_stride, k, factor, c, c_stride);
  }
}

// ---- Tiles -----------------------------------------------------------------------------------------------------

// Whether entries [begin, begin + n) follow each other in memory.
inline bool IsContiguous(const KvSource& source, int32_t begin, int32_t n) {
  return begin % source.page_entries + n <= source.page_entries;
}

// Element offset of an entry's row.
inline size_t LocateRow(const KvSource& source, int32_t entry) {
  const size_t row = static_cast<size_t>(entry % source.page_entries) * static_cast<size_t>(source.head_dim);
  return row + (source.pages == nullptr ? 0 : source.pages[entry / source.page_entries] * source.page_stride);
}

// Fills rows[i] with the element offset of entry begin + i, i < n.
inline void LocateRows(const KvSource& source, int32_t begin, int32_t n, size_t* rows) {
  for (int32_t i = 0; i < n;) {
    const size_t first = LocateRow(source, begin + i);
    const int32_t end = std::min(n, i + source.page_entries - (begin + i) % source.page_entries);
    for (size_t row = first; i < end; ++i, row += static_cast<size_t>(source.head_dim)) rows[i] = row;
  }
}

// Asks for memory that is needed soon, a few cache lines at a time between other work and only as far as the second
// level: in bursts, or into the first level, the core's few outstanding misses would block it. (Decode at 4,096
// entries on one thread of a Zen 4: hardware prefetch alone 8 GB/s, bursts 7, the first level 9, this 15.)
class Prefetch {
 public:
  struct Range {
    const void* begin = nullptr;
    size_t bytes = 0;
  };

  Prefetch() = default;
  // Both ranges in `steps` equal parts.
  Prefetch(Range first, Range second, size_t steps)
      : next_(static_cast<const char*>(first.begin)),
        end_(next_ + first.bytes),
        second_(second),
        step_((first.bytes + second.bytes) / steps / 64 + 1) {}

  HWY_INLINE void Step() {
    for (size_t i = 0; i < step_; ++i, next_ += 64) {
      if (next_ >= end_) {
        if (second_.bytes == 0) return;
        next_ = static_cast<const char*>(second_.begin);
        end_ = next_ + std::exchange(second_.bytes, 0);
      }
      __builtin_prefetch(next_, /*rw=*/0, /*locality=*/2);
    }
  }

 private:
  const char* next_ = nullptr;
  const char* end_ = nullptr;
  Range second_;
  size_t step_ = 0;  // Cache lines
};

// 4 x 4 32-bit elements transposed inside each 128-bit block of four vectors.
template <class D, class V>
HWY_INLINE void TransposeBlocks(D d, V (&x)[4]) {
  const hn::Repartition<uint64_t, D> dw;
  const V a = hn::InterleaveLower(d, x[0], x[1]);
  const V b = hn::InterleaveUpper(d, x[0], x[1]);
  const V c = hn::InterleaveLower(d, x[2], x[3]);
  const V e = hn::InterleaveUpper(d, x[2], x[3]);
  x[0] = hn::BitCast(d, hn::InterleaveLower(dw, hn::BitCast(dw, a), hn::BitCast(dw, c)));
  x[1] = hn::BitCast(d, hn::InterleaveUpper(dw, hn::BitCast(dw, a), hn::BitCast(dw, c)));
  x[2] = hn::BitCast(d, hn::InterleaveLower(dw, hn::BitCast(dw, b), hn::BitCast(dw, e)));
  x[3] = hn::BitCast(d, hn::InterleaveUpper(dw, hn::BitCast(dw, b), hn::BitCast(dw, e)));
}

// Vector whose 128-bit block i comes from rows[4 * i] + offset: 4 words of each of kLanes / 4 rows, 4 rows apart.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D du, const uint32_t* const* rows, size_t offset) {
  // Blocks are merged as they are loaded: insertions would compete with the transposition for the shuffle units.
  const auto block = [&](size_t i) HWY_ATTR { return hn::LoadDup128(du, rows[4 * i] + offset); };
  const auto lanes = hn::Iota(du, 0);
  const auto low = hn::IfThenElse(hn::Lt(lanes, hn::Set(du, 4u)), block(0), block(1));
  if constexpr (hn::MaxLanes(du) == 8) {
    return low;
  } else {
    const auto high = hn::IfThenElse(hn::Lt(lanes, hn::Set(du, 12u)), block(2), block(3));
    return hn::IfThenElse(hn::Lt(lanes, hn::Set(du, 8u)), low, high);
  }
}

// keys[w][i] = word w of K row i, i < n, in the words of Products; the rest of the tile is left alone or repeats row
// n - 1.
template <class Products, class T>
HWY_INLINE void TransposeKeys(const T* k, const size_t* rows, int32_t n, int32_t head_dim, Prefetch& prefetch,
                              typename Products::Word* HWY_RESTRICT keys) {
  using Word = typename Products::Word;
  constexpr int32_t kPerLoaded = sizeof(uint32_t) / sizeof(T);  // Elements in 32 bits of memory.
  if (head_dim % (4 * kPerLoaded) != 0) {
    for (int32_t i = 0; i < n; ++i) {
      const T* row = k + rows[i];
      for (int32_t w = 0; w < head_dim / Products::kPerWord; ++w, row += Products::kPerWord) {
        Word& word = keys[w * kTileEntries + i];
        if constexpr (Products::kPerWord == 1) {
          word = ToFloat(*row);
        } else {
          std::memcpy(&word, row, sizeof(word));
        }
      }
    }
    return;
  }
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::ScalableTag<Word> dk;
  const int32_t loads = head_dim / kPerLoaded;
  for (int32_t first = 0; first < n; first += static_cast<int32_t>(kLanes)) {
    const uint32_t* row[kLanes];
    for (int32_t i = 0; i < static_cast<int32_t>(kLanes); ++i) {
      row[i] = reinterpret_cast<const uint32_t*>(k + rows[std::min(first + i, n - 1)]);
    }
    Word* to = keys + first;
    for (int32_t w = 0; w < loads; w += 4) {
      prefetch.Step();
      hn::Vec<decltype(du)> x[4];
      LUKV_UNROLL
      for (int j = 0; j < 4; ++j) x[j] = LoadBlocks(du, row + j, static_cast<size_t>(w));
      TransposeBlocks(du, x);
      LUKV_UNROLL
      for (int j = 0; j < 4; ++j) {
        if constexpr (kPerLoaded == Products::kPerWord) {
          hn::Store(hn::BitCast(dk, x[j]), dk, to);
          to += kTileEntries;
        } else {  // Two bf16, the lower dimension in the lower half, become two f32.
          hn::Store(hn::BitCast(d, hn::ShiftLeft<16>(x[j])), d, to);
          hn::Store(hn::BitCast(d, hn::And(x[j], hn::Set(du, 0xffff0000u))), d, to + kTileEntries);
          to += 2 * kTileEntries;
        }
      }
    }
  }
}

// values[i][:] = V row i as f32, zeros up to PaddedDim.
template <class T>
HWY_INLINE void ConvertValues(const T* v, const size_t* rows, int32_t n, int32_t head_dim, Prefetch& prefetch,
                              float* HWY_RESTRICT values) {
  const FloatTag d;
  const int32_t whole = head_dim / static_cast<int32_t>(kLanes) * static_cast<int32_t>(kLanes);
  const int32_t padded = static_cast<int32_t>(PaddedDim(head_dim));
  for (int32_t i = 0; i < n; ++i, values += padded) {
    prefetch.Step();
    const T* row = v + rows[i];
    int32_t x = 0;
    for (; x < whole; x += static_cast<int32_t>(kLanes)) hn::Store(LoadFloat(d, row + x), d, values + x);
    for (; x < head_dim; ++x) values[x] = ToFloat(row[x]);
    for (; x < padded; ++x) values[x] = 0;
  }
}

#if LUKV_HAVE_BF16_PRODUCTS
// values[i][x] = element x of V rows 2 * i and 2 * i + 1 (zero if there is none), zeros up to PaddedDim.
HWY_INLINE void PairValues(const uint16_t* v, const size_t* rows, int32_t n, int32_t head_dim, Prefetch& prefetch,
                           uint32_t* HWY_RESTRICT values) {
  static_assert(kLanes == 16);
  HWY_ALIGN static constexpr uint16_t kLower[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i lower = _mm512_load_si512(kLower);
  const __m512i upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
  const int32_t whole = head_dim / 32 * 32;
  const int32_t padded = static_cast<int32_t>(PaddedDim(head_dim));
  for (int32_t i = 0; i < n; i += 2, values += padded) {
    prefetch.Step();
    const uint16_t* even = v + rows[i];
    const bool odd_end = i + 1 == n;
    const uint16_t* odd = odd_end ? even : v + rows[i + 1];
    const __mmask32 keep = odd_end ? 0 : 0xffffffffu;
    int32_t x = 0;
    for (; x < whole; x += 32) {
      const __m512i a = _mm512_loadu_si512(even + x);
      const __m512i b = _mm512_maskz_loadu_epi16(keep, odd + x);
      _mm512_store_si512(values + x, _mm512_permutex2var_epi16(a, lower, b));
      _mm512_store_si512(values + x + 16, _mm512_permutex2var_epi16(a, upper, b));
    }
    for (; x < head_dim; ++x) values[x] = even[x] | (odd_end ? 0u : static_cast<uint32_t>(odd[x]) << 16);
    for (; x < padded; ++x) values[x] = 0;
  }
}
#endif

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
