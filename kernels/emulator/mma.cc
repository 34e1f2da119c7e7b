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

}  // namespace

void MultiplyAddWarp(Thread* const (&lanes)[kWarpLanes]) {
  float a[kM][kK];
  float b[kK][kN];
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto* words_a = static_cast<const uint32_t*>(lanes[lane]->request.pointers[1]);
    const auto* words_b = static_cast<const uint32_t*>(lanes[lane]->request.pointers[2]);
    for (unsigned i = 0; i < 8; ++i) {
      const Element e = FragmentA(lane, i);
      a[e.row][e.col] = FromBits(words_a[i / 2], i % 2);
    }
    for (unsigned i = 0; i < 4; ++i) {
      const Element e = FragmentB(lane, i);
      b[e.row][e.col] = FromBits(words_b[i / 2], i % 2);
    }
  }
  float sum[kM][kN] = {};
  for (unsigned row = 0; row < kM; ++row) {
    for (unsigned k = 0; k < kK; ++k) {
      for (unsigned col = 0; col < kN; ++col) sum[row][col] += a[row][k] * b[k][col];
    }
  }
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    auto* d = static_cast<float*>(lanes[lane]->request.pointers[0]);
    for (unsigned i = 0; i < 4; ++i) {
      const Element e = FragmentC(lane, i);
      d[i] += sum[e.row][e.col];
    }
  }
}

void LoadMatricesWarp(Thread* const (&lanes)[kWarpLanes], bool transposed) {
  uint16_t rows[kWarpLanes][8];
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    std::memcpy(rows[lane], lanes[lane]->request.pointers[1], sizeof(rows[lane]));
  }
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    auto* r = static_cast<uint32_t*>(lanes[lane]->request.pointers[0]);
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
  AwaitWarp({.operation = WarpOperation::kMultiplyAdd,
             .mask = kAllLanes,
             .site = site,
             .return_address = __builtin_return_address(0),
             .pointers = {d, const_cast<uint32_t*>(a), const_cast<uint32_t*>(b)}});
}

namespace {

void LoadAsLane(WarpOperation operation, uint32_t* r, const void* row, const Site& site, const void* caller) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(row);
  if (address % kRowBytes != 0) FailThread("ldmatrix: misaligned address", site, caller, /*memory=*/true);
  if (!InSharedArray(address - SharedBase(), kRowBytes)) {
    FailThread("ldmatrix: does not read one of the block's shared arrays", site, caller, /*memory=*/true);
  }
  CheckRange(Access::kRead, address, kRowBytes, caller);
  AwaitWarp({.operation = operation,
             .mask = kAllLanes,
             .site = site,
             .return_address = caller,
             .pointers = {r, const_cast<void*>(row)}});
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
