#include "kernels/emulator/mma.h"

#include <cstring>

#include "kernels/emulator/access.h"
#include "kernels/emulator/device.h"

namespace lukv::emulator {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned kM = 16;
constexpr unsigned kN = 8;
constexpr unsigned kK = 16;
constexpr size_t kRowBytes = 16;

float FromBits(uint32_t word, unsigned half) {
  return __builtin_bit_cast(float, half == 0 ? word << 16 : word & 0xffff0000u);
}

// sum = a b. Products of bf16 are exact in float, so that it makes no difference whether they are rounded before they
// are added: the instruction sets give the same bits.
inline __attribute__((always_inline)) void ProductBody(const float (&a)[kM][kK], const float (&b)[kK][kN],
                                                       float (&sum)[kM][kN]) {
  typedef float Row __attribute__((vector_size(kN * sizeof(float))));
  Row rows[kK];
  std::memcpy(rows, b, sizeof(rows));
  for (unsigned row = 0; row < kM; ++row) {
    Row total = {};
    for (unsigned k = 0; k < kK; ++k) total += a[row][k] * rows[k];
    std::memcpy(sum[row], &total, sizeof(total));
  }
}

using ProductFunction = void (*)(const float (&)[kM][kK], const float (&)[kK][kN], float (&)[kM][kN]);
void ProductPlain(const float (&a)[kM][kK], const float (&b)[kK][kN], float (&sum)[kM][kN]) { ProductBody(a, b, sum); }
#ifdef __x86_64__
__attribute__((target("avx2,fma"))) void ProductAvx2(const float (&a)[kM][kK], const float (&b)[kK][kN],
                                                     float (&sum)[kM][kN]) {
  ProductBody(a, b, sum);
}
#endif

ProductFunction ChooseProduct() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &ProductAvx2;
#endif
  return &ProductPlain;
}

}  // namespace

void MultiplyAddWarp(WarpState& warp) {
  static const auto product = ChooseProduct();
  float a[kM][kK];
  float b[kK][kN];
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto* const words_a = static_cast<const uint32_t*>(warp.pointers[lane].in[0]);
    const auto* const words_b = static_cast<const uint32_t*>(warp.pointers[lane].in[1]);
    for (unsigned i = 0; i < 8; ++i) {
      const Element e = FragmentA(lane, i);
      a[e.row][e.col] = FromBits(words_a[i / 2], i % 2);
    }
    for (unsigned i = 0; i < 4; ++i) {
      const Element e = FragmentB(lane, i);
      b[e.row][e.col] = FromBits(words_b[i / 2], i % 2);
    }
  }
  float sum[kM][kN];
  product(a, b, sum);
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    auto* const d = static_cast<float*>(warp.pointers[lane].out);
    for (unsigned i = 0; i < 4; ++i) {
      const Element e = FragmentC(lane, i);
      d[i] += sum[e.row][e.col];
    }
  }
}

void LoadMatricesWarp(WarpState& warp, bool transposed) {
  uint16_t rows[kWarpLanes][8];
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    std::memcpy(rows[lane], warp.pointers[lane].in[0], sizeof(rows[lane]));
  }
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    auto* const r = static_cast<uint32_t*>(warp.pointers[lane].out);
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      uint32_t word = 0;
      for (unsigned i = 0; i < 2; ++i) {
        const Element e = FragmentMatrix(lane, i);
        const uint16_t value = transposed ? rows[matrix * 8 + e.col][e.row] : rows[matrix * 8 + e.row][e.col];
        word |= static_cast<uint32_t>(value) << (16 * i);
      }
      r[matrix] = word;
    }
  }
}

void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  const OutsideKernel outside;
  CurrentWarp().pointers[CurrentThread().lane()] = {d, {a, b}};
  AwaitWarp(WarpOperation::kMultiplyAdd, kAllLanes, site, __builtin_return_address(0));
}

namespace {

void LoadAsLane(WarpOperation operation, uint32_t* r, const void* row, const Site& site, const void* caller) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(row);
  if (address % kRowBytes != 0) FailThread("ldmatrix: misaligned address", site, caller, /*memory=*/true);
  if (!InSharedArray(address - SharedBase(), kRowBytes)) {
    FailThread("ldmatrix: does not read one of the block's shared arrays", site, caller, /*memory=*/true);
  }
  CheckRange(Access::kRead, address, kRowBytes, caller);
  CurrentWarp().pointers[CurrentThread().lane()] = {r, {row, nullptr}};
  AwaitWarp(operation, kAllLanes, site, caller);
}

}  // namespace

void LoadMatrices(uint32_t (&r)[4], const void* row, Site site) {
  const OutsideKernel outside;
  LoadAsLane(WarpOperation::kLoadMatrices, r, row, site, __builtin_return_address(0));
}

void LoadMatricesTransposed(uint32_t (&r)[4], const void* row, Site site) {
  const OutsideKernel outside;
  LoadAsLane(WarpOperation::kLoadMatricesTransposed, r, row, site, __builtin_return_address(0));
}

}  // namespace lukv::emulator
