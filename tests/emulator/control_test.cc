// Calls that are made to fail, and the log of launches.
#include <cublasLt.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/emulator/control.h"
#include "tests/emulator/device_array.h"

namespace lukv::cuda {

__global__ void NothingKernel() {}
template <typename T>
__global__ void StaticSharedKernel(T* out) {
  LUKV_SHARED(T, values, 10);
  LUKV_SHARED(T, more, 1);
  values[threadIdx.x % 10] = 0;
  out[0] = more == nullptr ? 1 : 0;
}

}  // namespace lukv::cuda

namespace lukv::emulator {
namespace {

using ::testing::ElementsAre;

// Some of everything. What was made is given back also after an error, which is returned.
cudaError_t Work() {
  void* memory = nullptr;
  void* pinned = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  cublasLtHandle_t handle = nullptr;
  const auto run = [&] {
    LUKV_CUDA_RETURN_IF_ERROR(cudaSetDevice(0));
    LUKV_CUDA_RETURN_IF_ERROR(cudaStreamCreate(&stream));
    LUKV_CUDA_RETURN_IF_ERROR(cudaEventCreate(&event));
    LUKV_CUDA_RETURN_IF_ERROR(cudaMalloc(&memory, 64));
    LUKV_CUDA_RETURN_IF_ERROR(cudaMallocHost(&pinned, 64));
    LUKV_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(memory, pinned, 64, cudaMemcpyHostToDevice, stream));
    LUKV_CUDA_RETURN_IF_ERROR(cudaEventRecord(event, stream));
    LUKV_CUDA_RETURN_IF_ERROR(cuda::Launch(stream, &cuda::NothingKernel, 1, 1, 0));
    LUKV_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream));
    return cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
  };
  const cudaError_t error = run();
  if (handle != nullptr) {
    EXPECT_EQ(cublasLtDestroy(handle), CUBLAS_STATUS_SUCCESS);
  }
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  if (event != nullptr) {
    EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  }
  if (stream != nullptr) {
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  }
  return error;
}

TEST(FaultTest, EveryCallFailsInTurn) {
  const int64_t before = lukv_emulator_calls();
  ASSERT_EQ(Work(), cudaSuccess);
  const int n = static_cast<int>(lukv_emulator_calls() - before);
  ASSERT_EQ(n, 10);
  std::vector<cudaError_t> errors;
  for (int call = 1; call <= n; ++call) {
    lukv_emulator_fail_after(call);
    errors.push_back(Work());
    EXPECT_EQ(lukv_emulator_live_allocations(), 0);
    EXPECT_EQ(Work(), cudaSuccess) << "one call only";
  }
  EXPECT_THAT(errors, ElementsAre(cudaErrorUnknown, cudaErrorUnknown, cudaErrorUnknown, cudaErrorMemoryAllocation,
                                  cudaErrorMemoryAllocation, cudaErrorUnknown, cudaErrorUnknown, cudaErrorUnknown,
                                  cudaErrorUnknown, cudaErrorInvalidValue));
  lukv_emulator_fail_after(1);
  lukv_emulator_fail_after(-1);
  EXPECT_EQ(Work(), cudaSuccess) << "called off";
}

TEST(LaunchLogTest, HasEveryKindOfLaunchOnce) {
  const std::string path = ::testing::TempDir() + "/launches";
  std::remove(path.c_str());
  EXPECT_EXIT(
      {
        setenv("LUKV_EMULATOR_LAUNCHES", path.c_str(), 1);
        const DeviceArray<int> ints(std::vector<int>(1));
        const DeviceArray<double> doubles(std::vector<double>(1));
        for (int i = 0; i < 2; ++i) {
          cuda::Launch(nullptr, &cuda::NothingKernel, 1, 32, 0);
          cuda::Launch(nullptr, &cuda::NothingKernel, 2, dim3(8, 4), 100);
        }
        cuda::Launch(nullptr, &cuda::StaticSharedKernel<int>, 1, 1, 0, ints.get());
        cuda::Launch(nullptr, &cuda::StaticSharedKernel<double>, 1, 1, 0, doubles.get());
        std::exit(cudaDeviceSynchronize());
      },
      ::testing::ExitedWithCode(0), "");
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_THAT(lines, ElementsAre("_ZN4lukv4cuda13NothingKernelEv 32 0 0", "_ZN4lukv4cuda13NothingKernelEv 32 100 0",
                                 "_ZN4lukv4cuda18StaticSharedKernelIiEEvPT_ 1 0 64",
                                 "_ZN4lukv4cuda18StaticSharedKernelIdEEvPT_ 1 0 96"));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace lukv::emulator
