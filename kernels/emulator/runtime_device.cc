// The runtime API's launches, device properties, functions' attributes and errors.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <tuple>

#include "kernels/emulator/block.h"
#include "kernels/emulator/launch.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/runtime.h"
#include "kernels/emulator/shared_memory.h"

namespace lukv::emulator {
namespace {

constexpr int kMultiprocessors = 3;
constexpr int kThreadsPerMultiprocessor = 2048;
constexpr int kBlocksPerMultiprocessor = 32;
constexpr size_t kSharedPerMultiprocessor = 228 * 1024;
constexpr size_t kReservedShared = 1024;  // Of every block, on compute capability 9.0.

// LUKV_EMULATOR_LAUNCHES: the distinct launches, for a table of what kernels need on a device.
void LogLaunch(const Grid& grid, size_t static_bytes) {
  static const char* const path = std::getenv("LUKV_EMULATOR_LAUNCHES");
  if (path == nullptr) return;
  const unsigned threads = grid.block.x * grid.block.y * grid.block.z;
  static std::set<std::tuple<const void*, unsigned, size_t, size_t>> seen;
  if (!seen.emplace(grid.function, threads, grid.dynamic_shared_bytes, static_bytes).second) return;
  if (std::FILE* const file = std::fopen(path, "a"); file != nullptr) {
    std::fprintf(file, "%s %u %zu %zu\n", KernelSymbol(grid.function).c_str(), threads, grid.dynamic_shared_bytes,
                 static_bytes);
    std::fclose(file);
  }
}

cudaError_t Run(const Grid& grid) {
  const bool fine = RunGrid(grid);
  LogLaunch(grid, StaticSharedBytes());
  if (fine) return cudaSuccess;
  return LastReport().memory ? cudaErrorIllegalAddress : cudaErrorLaunchFailure;
}

}  // namespace

cudaError_t LaunchErased(cudaStream_t stream, const void* function, dim3 grid, dim3 block, size_t shared_bytes,
                         LaunchBody body) {
  return Call([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return cudaErrorInvalidResourceHandle;
    const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
    // CUDA C++ programming guide, "Technical specifications per compute capability".
    if (threads == 0 || threads > kMaxThreads || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffffu || grid.y > 0xffff || grid.z > 0xffff) {
      return Refuse(KernelName(function).c_str(), "a grid or block that no device has", cudaErrorInvalidConfiguration);
    }
    if (shared_bytes > runtime.DynamicLimit(function)) {
      return Refuse(KernelName(function).c_str(), "more shared memory than was asked for by cudaFuncSetAttribute",
                    cudaErrorInvalidValue);
    }
    return runtime.Issue(on, [launch = Grid{.function = function,
                                            .grid = grid,
                                            .block = block,
                                            .dynamic_shared_bytes = shared_bytes,
                                            .shared_limit = runtime.SharedLimit(function),
                                            .body = std::move(body)}] { return Run(launch); });
  });
}

}  // namespace lukv::emulator

using lukv::emulator::Call;
using lukv::emulator::Runtime;

cudaError_t cudaGetDeviceCount(int* count) {
  return Call([&](Runtime&) {
    *count = 1;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return Call([&](Runtime&) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; });
}

cudaError_t cudaGetDevice(int* device) {
  return Call([&](Runtime&) {
    *device = 0;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return Call([&](Runtime&) {
    if (device != 0) return cudaErrorInvalidDevice;
    cudaDeviceProp p = {};
    std::snprintf(p.name, sizeof(p.name), "LUKV emulated device");
    p.major = 9;
    p.minor = 0;
    p.multiProcessorCount = lukv::emulator::kMultiprocessors;
    p.warpSize = lukv::emulator::kWarpLanes;
    p.maxThreadsPerBlock = lukv::emulator::kMaxThreads;
    p.maxThreadsPerMultiProcessor = lukv::emulator::kThreadsPerMultiprocessor;
    p.maxBlocksPerMultiProcessor = lukv::emulator::kBlocksPerMultiprocessor;
    p.sharedMemPerBlock = lukv::emulator::kPlainSharedBytes;
    p.sharedMemPerBlockOptin = lukv::emulator::kMaxDynamicShared;
    p.sharedMemPerMultiprocessor = lukv::emulator::kSharedPerMultiprocessor;
    p.reservedSharedMemPerBlock = lukv::emulator::kReservedShared;
    p.regsPerBlock = 65536;
    p.regsPerMultiprocessor = 65536;
    p.l2CacheSize = 1 << 20;
    p.totalGlobalMem = lukv::emulator::DeviceMemory::Get().total_bytes();
    *properties = p;
    return cudaSuccess;
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return Call([&](Runtime& runtime) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || static_cast<size_t>(value) > lukv::emulator::kMaxDynamicShared) return cudaErrorInvalidValue;
    runtime.SetDynamicLimit(function, static_cast<size_t>(value));
    return cudaSuccess;
  });
}

// Registers are not known here: threads, blocks and shared memory alone.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* /*function*/, int threads,
                                                          size_t dynamic_bytes) {
  return Call([&](Runtime&) {
    if (threads <= 0 || threads > static_cast<int>(lukv::emulator::kMaxThreads)) return cudaErrorInvalidValue;
    const size_t by_shared =
        lukv::emulator::kSharedPerMultiprocessor / (dynamic_bytes + lukv::emulator::kReservedShared);
    *blocks = std::min({lukv::emulator::kBlocksPerMultiprocessor, lukv::emulator::kThreadsPerMultiprocessor / threads,
                        static_cast<int>(by_shared)});
    return cudaSuccess;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

cudaError_t cudaGetLastError() { return lukv::emulator::TakeLastError(); }
cudaError_t cudaPeekAtLastError() { return lukv::emulator::PeekLastError(); }

namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrorTexts[] = {
#define LUKV_ERROR(error, text) \
  { error, #error, text }
    LUKV_ERROR(cudaSuccess, "no error"),
    LUKV_ERROR(cudaErrorInvalidValue, "invalid argument"),
    LUKV_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    LUKV_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    LUKV_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    LUKV_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    LUKV_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    LUKV_ERROR(cudaErrorNotReady, "device not ready"),
    LUKV_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    LUKV_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    LUKV_ERROR(cudaErrorNotSupported, "operation not supported"),
    LUKV_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    LUKV_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    LUKV_ERROR(cudaErrorStreamCaptureMerge, "operation would merge two captures"),
    LUKV_ERROR(cudaErrorStreamCaptureUnmatched, "capture was not started in this stream"),
    LUKV_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    LUKV_ERROR(cudaErrorStreamCaptureIsolation, "dependency on uncaptured work in another stream"),
    LUKV_ERROR(cudaErrorStreamCaptureImplicit, "operation would make the default stream depend on a capturing one"),
    LUKV_ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    LUKV_ERROR(cudaErrorStreamCaptureWrongThread, "attempt to end a capture from another thread"),
    LUKV_ERROR(cudaErrorUnknown, "unknown error"),
#undef LUKV_ERROR
};

const ErrorText* FindText(cudaError_t error) {
  for (const ErrorText& text : kErrorTexts) {
    if (text.error == error) return &text;
  }
  return nullptr;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* const text = FindText(error);
  return text == nullptr ? "unrecognized error code" : text->name;
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* const text = FindText(error);
  return text == nullptr ? "unrecognized error code" : text->text;
}
