// Tensor core fragments against the formulas of the PTX ISA manual, and products against double.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"
#include "kernels/emulator/mma.h"
#include "tests/emulator/device_array.h"

namespace lukv::cuda {

// d[32, 4] += of fragments a[32, 4] and b[32, 2].
__global__ void FragmentsKernel(const uint32_t* a, const uint32_t* b, float* d) {
  float sum[4];
  uint32_t fragment_a[4];
  uint32_t fragment_b[2];
  for (int i = 0; i < 4; ++i) sum[i] = d[4 * threadIdx.x + i];
  for (int i = 0; i < 4; ++i) fragment_a[i] = a[4 * threadIdx.x + i];
  for (int i = 0; i < 2; ++i) fragment_b[i] = b[2 * threadIdx.x + i];
  MultiplyAdd(sum, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[4 * threadIdx.x + i] = sum[i];
}

// in [32 rows, 8]; out[2, 32, 4]: as they are and transposed.
__global__ void MatricesKernel(const uint16_t* in, uint32_t* out) {
  LUKV_SHARED(uint16_t, rows, 256);
  for (int i = 0; i < 8; ++i) rows[8 * threadIdx.x + i] = in[8 * threadIdx.x + i];
  __syncwarp();
  uint32_t r[4];
  LoadMatrices(r, rows + 8 * threadIdx.x);
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = r[i];
  LoadMatricesTransposed(r, rows + 8 * threadIdx.x);
  for (int i = 0; i < 4; ++i) out[128 + 4 * threadIdx.x + i] = r[i];
}

// out[16, 8] = a[16, 16] b[16, 8], both by rows, as a kernel does it: ldmatrix for a, ldmatrix.trans for b.
__global__ void ProductKernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {
  LUKV_SHARED(__nv_bfloat16, shared_a, 256);
  LUKV_SHARED(__nv_bfloat16, shared_b, 256);
  for (int i = Lane(); i < 256; i += kWarp) {
    shared_a[i] = a[i];
    shared_b[i] = b[i % 128];
  }
  __syncthreads();
  uint32_t fragment_a[4];
  uint32_t fragment_b[4];
  // The matrices of a: rows 0 to 7 and 8 to 15 of columns 0 to 7, then of 8 to 15. Of b: rows 0 to 7 and 8 to 15.
  LoadMatrices(fragment_a, shared_a + Lane() % 16 * 16 + Lane() / 16 * 8);
  LoadMatricesTransposed(fragment_b, shared_b + Lane() * 8);
  float d[4] = {};
  const uint32_t low[2] = {fragment_b[0], fragment_b[1]};
  MultiplyAdd(d, fragment_a, low);
  for (int i = 0; i < 4; ++i) out[(Lane() / 4 + i / 2 * 8) * 8 + Lane() % 4 * 2 + i % 2] = d[i];
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

uint16_t Bits(float value) { return __nv_bfloat16_raw(__float2bfloat16_rn(value)).x; }
float Value(uint16_t bits) { return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits})); }

std::vector<float> RandomValues(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = Value(Bits(normal(random)));
  return values;
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", with its names.
TEST(FragmentTest, FollowTheManual) {
  std::set<std::pair<unsigned, unsigned>> a;
  std::set<std::pair<unsigned, unsigned>> b;
  std::set<std::pair<unsigned, unsigned>> c;
  for (unsigned laneid = 0; laneid < 32; ++laneid) {
    const unsigned group = laneid >> 2;
    const unsigned thread_in_group = laneid % 4;
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      const unsigned col = i < 4 ? thread_in_group * 2 + (i & 1) : thread_in_group * 2 + (i & 1) + 8;
      EXPECT_EQ(FragmentA(laneid, i).row, row);
      EXPECT_EQ(FragmentA(laneid, i).col, col);
      a.emplace(row, col);
    }
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = i < 2 ? thread_in_group * 2 + (i & 1) : thread_in_group * 2 + (i & 1) + 8;
      EXPECT_EQ(FragmentB(laneid, i).row, row);
      EXPECT_EQ(FragmentB(laneid, i).col, group);
      b.emplace(row, group);
      const unsigned out_row = i < 2 ? group : group + 8;
      EXPECT_EQ(FragmentC(laneid, i).row, out_row);
      EXPECT_EQ(FragmentC(laneid, i).col, thread_in_group * 2 + (i & 1));
      c.emplace(out_row, thread_in_group * 2 + (i & 1));
    }
  }
  EXPECT_EQ(a.size(), 16u * 16);
  EXPECT_EQ(b.size(), 16u * 8);
  EXPECT_EQ(c.size(), 16u * 8);
}

TEST(MmaTest, AgreesWithDouble) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    const std::vector<float> a = RandomValues(16 * 16, seed);
    const std::vector<float> b = RandomValues(16 * 8, seed + 100);
    const std::vector<float> c = RandomValues(16 * 8, seed + 200);
    std::vector<uint32_t> fragments_a(32 * 4);
    std::vector<uint32_t> fragments_b(32 * 2);
    std::vector<float> fragments_d(32 * 4);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned group = lane / 4;
      const unsigned pair = lane % 4 * 2;
      const auto pack = [](float low, float high) { return Bits(low) | static_cast<uint32_t>(Bits(high)) << 16; };
      const auto at_a = [&](unsigned row, unsigned col) { return pack(a[row * 16 + col], a[row * 16 + col + 1]); };
      fragments_a[lane * 4 + 0] = at_a(group, pair);
      fragments_a[lane * 4 + 1] = at_a(group + 8, pair);
      fragments_a[lane * 4 + 2] = at_a(group, pair + 8);
      fragments_a[lane * 4 + 3] = at_a(group + 8, pair + 8);
      fragments_b[lane * 2 + 0] = pack(b[pair * 8 + group], b[(pair + 1) * 8 + group]);
      fragments_b[lane * 2 + 1] = pack(b[(pair + 8) * 8 + group], b[(pair + 9) * 8 + group]);
      for (unsigned i = 0; i < 4; ++i) fragments_d[lane * 4 + i] = c[(group + i / 2 * 8) * 8 + pair + i % 2];
    }
    const DeviceArray<uint32_t> device_a(fragments_a);
    const DeviceArray<uint32_t> device_b(fragments_b);
    const DeviceArray<float> device_d(fragments_d);
    ASSERT_EQ(cuda::Launch(nullptr, &cuda::FragmentsKernel, 1, 32, 0, device_a.get(), device_b.get(), device_d.get()),
              cudaSuccess);
    const std::vector<float> d = device_d.Read();
    for (unsigned row = 0; row < 16; ++row) {
      for (unsigned col = 0; col < 8; ++col) {
        double expected = c[row * 8 + col];
        double size = std::abs(expected);
        for (unsigned k = 0; k < 16; ++k) {
          expected += static_cast<double>(a[row * 16 + k]) * b[k * 8 + col];
          size += std::abs(static_cast<double>(a[row * 16 + k]) * b[k * 8 + col]);
        }
        const unsigned lane = row % 8 * 4 + col / 2;
        EXPECT_NEAR(d[lane * 4 + row / 8 * 2 + col % 2], expected, 1e-6 * size);
      }
    }
  }
}

// PTX ISA, "ldmatrix": lane l gets the elements 2 (l % 4) and the next of row l / 4, transposed of column l / 4.
TEST(MatricesTest, FollowTheManual) {
  std::vector<uint16_t> in(256);
  for (unsigned i = 0; i < 256; ++i) in[i] = static_cast<uint16_t>(1000 + i);
  const DeviceArray<uint16_t> device_in(in);
  const DeviceArray<uint32_t> device_out(std::vector<uint32_t>(256));
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::MatricesKernel, 1, 32, 0, device_in.get(), device_out.get()), cudaSuccess);
  const std::vector<uint32_t> out = device_out.Read();
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      const auto element = [&](unsigned row, unsigned col) { return uint32_t{in[(matrix * 8 + row) * 8 + col]}; };
      const unsigned pair = lane % 4 * 2;
      EXPECT_EQ(out[4 * lane + matrix], element(lane / 4, pair) | element(lane / 4, pair + 1) << 16);
      EXPECT_EQ(out[128 + 4 * lane + matrix], element(pair, lane / 4) | element(pair + 1, lane / 4) << 16);
    }
  }
}

TEST(MatricesTest, ProductOfWhatTheyLoad) {
  const std::vector<float> a = RandomValues(256, 1);
  const std::vector<float> b = RandomValues(128, 2);
  const auto halves = [](const std::vector<float>& values) {
    std::vector<__nv_bfloat16> converted;
    for (const float value : values) converted.push_back(__float2bfloat16_rn(value));
    return converted;
  };
  const DeviceArray<__nv_bfloat16> device_a(halves(a));
  const DeviceArray<__nv_bfloat16> device_b(halves(b));
  const DeviceArray<float> device_out(std::vector<float>(128));
  ASSERT_EQ(cuda::Launch(nullptr, &cuda::ProductKernel, 1, 32, 0, device_a.get(), device_b.get(), device_out.get()),
            cudaSuccess);
  const std::vector<float> out = device_out.Read();
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 8; ++col) {
      double expected = 0;
      for (int k = 0; k < 16; ++k) expected += static_cast<double>(a[row * 16 + k]) * b[k * 8 + col];
      EXPECT_NEAR(out[row * 8 + col], expected, 1e-5);
    }
  }
}

}  // namespace
}  // namespace lukv::emulator
