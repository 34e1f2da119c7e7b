// Rows of a and columns of b become floats one behind the other; then every element is a dot product of kLanes partial
// sums, which a fixed tree adds up. The body is compiled for several instruction sets: of bf16 the results are the same
// on all of them (products are exact in float), of float they may differ in the last bits between processors.
#include "kernels/emulator/matmul.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace lukv::emulator {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kRows = 3;  // Of a register tile.
constexpr int64_t kCols = 2;
constexpr int64_t kBlock =
    48;  // Rows of `a` that are unpacked at a time: a few hundred KiB, for the second-level cache.

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

int64_t RoundUp(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

float FromBf16(uint16_t bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }

// To the nearest, ties to even; a NaN stays one.
uint16_t ToBf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// n floats that are `step` elements apart.
void Unpack(const Operand& from, int64_t offset, int64_t step, int64_t n, float* to) {
  if (from.bf16) {
    const auto* const data = static_cast<const uint16_t*>(from.data) + offset;
    if (step == 1) {
      for (int64_t i = 0; i < n; ++i) to[i] = FromBf16(data[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) to[i] = FromBf16(data[i * step]);
    }
  } else {
    const auto* const data = static_cast<const float*>(from.data) + offset;
    for (int64_t i = 0; i < n; ++i) to[i] = data[i * step];
  }
}

// Rows of `to` [rows, stride], the floats that come after a row's k and the rows up to a multiple of `tile` are zeros:
// they add nothing to a sum.
void UnpackRows(const Operand& from, bool rows_apart, int64_t first, int64_t rows, int64_t tile, int64_t k,
                int64_t stride, std::vector<float>& to) {
  const size_t size = static_cast<size_t>(RoundUp(rows, tile) * stride);
  if (to.size() < size) to.resize(size);
  float* row_out = to.data();
  for (int64_t row = 0; row < rows; ++row, row_out += stride) {
    const int64_t offset = rows_apart ? (first + row) * from.ld : first + row;
    Unpack(from, offset, rows_apart ? 1 : from.ld, k, row_out);
    std::fill(row_out + k, row_out + stride, 0.0f);
  }
  std::fill(row_out, to.data() + size, 0.0f);
}

inline __attribute__((always_inline)) float Sum(Vector v) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) v[lane] += v[lane + half];
  }
  return v[0];
}

// sums[r][c] = dot of row r of a and row c of b, both [*, stride].
inline __attribute__((always_inline)) void TileBody(const float* a, const float* b, int64_t stride,
                                                    float (&sums)[kRows][kCols]) {
  Vector partial[kRows][kCols] = {};
  for (int64_t k = 0; k < stride; k += kLanes) {
    Vector row[kRows];
    Vector col[kCols];
    for (int64_t r = 0; r < kRows; ++r) std::memcpy(&row[r], a + r * stride + k, sizeof(Vector));
    for (int64_t c = 0; c < kCols; ++c) std::memcpy(&col[c], b + c * stride + k, sizeof(Vector));
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kCols; ++c) partial[r][c] += row[r] * col[c];
    }
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) sums[r][c] = Sum(partial[r][c]);
  }
}

using TileFunction = void (*)(const float*, const float*, int64_t, float (&)[kRows][kCols]);
void TilePlain(const float* a, const float* b, int64_t stride, float (&sums)[kRows][kCols]) {
  TileBody(a, b, stride, sums);
}
#ifdef __x86_64__
__attribute__((target("avx2,fma"))) void TileAvx2(const float* a, const float* b, int64_t stride,
                                                  float (&sums)[kRows][kCols]) {
  TileBody(a, b, stride, sums);
}
__attribute__((target("avx512f,prefer-vector-width=512"))) void TileAvx512(const float* a, const float* b,
                                                                           int64_t stride,
                                                                           float (&sums)[kRows][kCols]) {
  TileBody(a, b, stride, sums);
}
#endif

TileFunction ChooseTile() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return &TileAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &TileAvx2;
#endif
  return &TilePlain;
}

void Store(const Product& product, int64_t row, int64_t col, float sum) {
  const int64_t from = row + col * product.ldc;
  const int64_t to = row + col * product.ldd;
  float value = product.alpha * sum;
  if (product.beta != 0) {
    value += product.beta * (product.out_bf16 ? FromBf16(static_cast<const uint16_t*>(product.c)[from])
                                              : static_cast<const float*>(product.c)[from]);
  }
  if (product.out_bf16) {
    static_cast<uint16_t*>(product.d)[to] = ToBf16(value);
  } else {
    static_cast<float*>(product.d)[to] = value;
  }
}

}  // namespace

void Multiply(const Product& product) {
  static const TileFunction tile = ChooseTile();
  const int64_t stride = std::max(RoundUp(product.k, kLanes), kLanes);
  // Kept from call to call: products are many.
  static std::vector<float>& a = *new std::vector<float>;
  static std::vector<float>& b = *new std::vector<float>;
  UnpackRows(product.b, !product.b.transposed, 0, product.n, kCols, product.k, stride, b);
  for (int64_t first = 0; first < product.m; first += kBlock) {
    const int64_t rows = std::min(kBlock, product.m - first);
    UnpackRows(product.a, product.a.transposed, first, rows, kRows, product.k, stride, a);
    for (int64_t col = 0; col < product.n; col += kCols) {
      for (int64_t row = 0; row < rows; row += kRows) {
        float sums[kRows][kCols];
        tile(a.data() + row * stride, b.data() + col * stride, stride, sums);
        for (int64_t c = 0; c < std::min(kCols, product.n - col); ++c) {
          for (int64_t r = 0; r < std::min(kRows, rows - row); ++r)
            Store(product, first + row + r, col + c, sums[r][c]);
        }
      }
    }
  }
}

}  // namespace lukv::emulator
