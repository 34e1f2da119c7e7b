// Kernels that touch memory that is not theirs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/async_copy.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"
#include "kernels/emulator/memory.h"
#include "tests/emulator/bugs.h"

namespace lukv::cuda {

__global__ void SharedOutOfBoundsKernel(int* out) {
  LUKV_SHARED(int, first, 32);
  LUKV_SHARED(int, second, 32);
  second[threadIdx.x] = 0;
  first[threadIdx.x + 1] = 0;  // BUG
  __syncthreads();
  out[threadIdx.x] = second[threadIdx.x];
}

__global__ void DynamicOutOfBoundsKernel(int* out) {
  LUKV_DYNAMIC_SHARED(char, bytes);
  bytes[threadIdx.x] = 0;  // BUG
  out[threadIdx.x] = 0;
}

__global__ void MisalignedCopyKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 256);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x + 1);  // BUG
  AsyncCommit();
  AsyncWait<0>();
  out[threadIdx.x] = tile[4 * threadIdx.x];
}

__global__ void CopyToOutsideKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 124);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x);  // BUG
  AsyncCommit();
  AsyncWait<0>();
  out[threadIdx.x] = tile[4 * threadIdx.x];
}

__global__ void MatricesFromOutsideKernel(float* out) {
  uint32_t r[4];
  LoadMatrices(r, out);  // BUG
  out[threadIdx.x] = static_cast<float>(r[0]);
}

__global__ void CopyFromOutsideKernel(const float* in, float* out) {
  LUKV_SHARED(float, tile, 256);
  AsyncCopy16(tile + 4 * threadIdx.x, in + 4 * threadIdx.x + 4);  // BUG
  AsyncCommit();
  AsyncWait<0>();
  out[threadIdx.x] = tile[4 * threadIdx.x];
}

__global__ void ReadPastTheEndKernel(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x + 1];  // BUG
}

__global__ void WritePastTheEndKernel(float* out, int n) {
  if (static_cast<int>(threadIdx.x) <= n) out[threadIdx.x] = 1;  // BUG
}

__global__ void ReadBeforeTheStartKernel(const float* in, float* out) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) - 1];  // BUG
}

__global__ void AtomicPastTheEndKernel(unsigned* out) {
  atomicAdd(out + 32 * threadIdx.x, 1u);  // BUG
}

struct alignas(16) BugVector {
  float values[4];
};
__global__ void MisalignedVectorKernel(const float* in, BugVector* out) {
  out[threadIdx.x] = *reinterpret_cast<const BugVector*>(in + threadIdx.x);  // BUG
}

// Reads what `in` points to, which lies in the host's memory for the test, or is freed or null.
__global__ void ReadElsewhereKernel(const float* in, float* out) {
  out[threadIdx.x] = *in;  // BUG
}
__global__ void WriteElsewhereKernel(float* out) {
  *out = 1;  // BUG
}
__global__ void LocalOfAnotherThreadKernel(float* out) {
  LUKV_SHARED(float*, pointers, 32);
  float local[2] = {1, static_cast<float>(threadIdx.x)};
  pointers[threadIdx.x] = local;
  __syncthreads();
  out[threadIdx.x] = pointers[threadIdx.x ^ 1][1];  // BUG
  __syncthreads();
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// An access that the checks must refuse: with AddressSanitizer in the build it is the one that finds it.
#ifdef __SANITIZE_ADDRESS__
template <typename... Parameters, typename... Arguments>
void ExpectDeath(const std::string& name, unsigned threads, size_t shared_bytes, void (*kernel)(Parameters...),
                 Arguments... arguments) {
  EXPECT_DEATH(
      {
        cuda::Launch(nullptr, kernel, 1, threads, shared_bytes, arguments...);
        cudaDeviceSynchronize();
      },
      "AddressSanitizer.*" + name + "|bounds_test.cc:[0-9:]+ runtime error: .*(misaligned address|null pointer)");
}
#define LUKV_EXPECT_BAD_ACCESS(kernel, what, threads, shared_bytes, ...) \
  ExpectDeath(#kernel, threads, shared_bytes, &cuda::kernel, __VA_ARGS__)
#else
#define LUKV_EXPECT_BAD_ACCESS(kernel, what, threads, shared_bytes, ...) \
  LUKV_EXPECT_FOUND(kernel, what, cudaErrorIllegalAddress, threads, shared_bytes, __VA_ARGS__)
#endif

TEST(BoundsTest, SharedMemory) {
  const auto out = Zeros<int>(32);
  const auto outside = HasSubstr("out of bounds of the block's shared arrays");
  LUKV_EXPECT_BAD_ACCESS(SharedOutOfBoundsKernel, outside, 32, 0, out.get());
  LUKV_EXPECT_BAD_ACCESS(DynamicOutOfBoundsKernel, outside, 32, 31, out.get());
}

TEST(BoundsTest, GlobalMemory) {
  const auto in = Zeros<float>(32);
  const auto out = Zeros<float>(32);
  const auto counts = Zeros<unsigned>(32);
  const auto vectors = Zeros<cuda::BugVector>(8);
  const auto past = HasSubstr("0 bytes past the end of an allocation of 128 bytes");
  LUKV_EXPECT_BAD_ACCESS(ReadPastTheEndKernel, AllOf(HasSubstr("reads 4 bytes"), past), 32, 0, in.get(), out.get());
  LUKV_EXPECT_BAD_ACCESS(WritePastTheEndKernel, AllOf(HasSubstr("writes 4 bytes"), past), 64, 0, out.get(), 32);
  LUKV_EXPECT_BAD_ACCESS(ReadBeforeTheStartKernel, HasSubstr("out of bounds"), 32, 0, in.get(), out.get());
  LUKV_EXPECT_BAD_ACCESS(AtomicPastTheEndKernel, AllOf(HasSubstr("atomically updates 4 bytes"), past), 2, 0,
                         counts.get());
  LUKV_EXPECT_BAD_ACCESS(MisalignedVectorKernel, HasSubstr("misaligned"), 8, 0, in.get(), vectors.get());
  LUKV_EXPECT_BAD_ACCESS(ReadElsewhereKernel, HasSubstr("null pointer"), 32, 0, nullptr, out.get());
}

TEST(BoundsTest, FreedMemory) {
  const auto out = Zeros<float>(32);
  void* freed = nullptr;
  ASSERT_EQ(cudaMalloc(&freed, 4096), cudaSuccess);
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  LUKV_EXPECT_BAD_ACCESS(ReadElsewhereKernel, HasSubstr("40 bytes into freed memory of 4096 bytes"), 32, 0,
                         static_cast<float*>(freed) + 10, out.get());
}

TEST(BoundsTest, AsyncCopies) {
  const auto in = Zeros<float>(128);
  const auto out = Zeros<float>(32);
  LUKV_EXPECT_FOUND(MisalignedCopyKernel, HasSubstr("misaligned"), cudaErrorIllegalAddress, 32, 0, in.get(), out.get());
  LUKV_EXPECT_FOUND(CopyToOutsideKernel, HasSubstr("does not write to one of the block's shared arrays"),
                    cudaErrorIllegalAddress, 32, 0, in.get(), out.get());
  LUKV_EXPECT_FOUND(MatricesFromOutsideKernel, HasSubstr("does not read one of the block's shared arrays"),
                    cudaErrorIllegalAddress, 32, 0, out.get());
  LUKV_EXPECT_BAD_ACCESS(CopyFromOutsideKernel, HasSubstr("0 bytes past the end of an allocation of 512"), 32, 0,
                         in.get(), out.get());
}

// To AddressSanitizer the host's memory is as good as the device's.
#ifndef __SANITIZE_ADDRESS__
TEST(BoundsTest, NotTheDevices) {
  const auto out = Zeros<float>(32);
  std::vector<float> host(32);
  static float variable = 0;
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 128), cudaSuccess);
  const auto is_host = HasSubstr(": host memory");
  LUKV_EXPECT_BAD_ACCESS(ReadElsewhereKernel, is_host, 32, 0, host.data(), out.get());
  LUKV_EXPECT_BAD_ACCESS(WriteElsewhereKernel, is_host, 32, 0, host.data());
  LUKV_EXPECT_BAD_ACCESS(ReadElsewhereKernel, is_host, 32, 0, &variable, out.get());
  LUKV_EXPECT_BAD_ACCESS(ReadElsewhereKernel, HasSubstr("pinned host memory"), 32, 0, static_cast<float*>(pinned),
                         out.get());
  LUKV_EXPECT_BAD_ACCESS(LocalOfAnotherThreadKernel, HasSubstr("local memory of another thread"), 32, 0, out.get());
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST(BoundsTest, HostThatTouchesTheDevices) {
  EXPECT_DEATH(
      {
        const auto data = Zeros<float>(32);
        for (int i = 0; i < DeviceMemory::kClosingsPerLock; ++i) {
          data.Read();
          if (*data.get() != 0) std::abort();
        }
      },
      "");
}
#endif

}  // namespace
}  // namespace lukv::emulator
