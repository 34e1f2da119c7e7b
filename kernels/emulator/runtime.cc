// The part of the CUDA runtime that the backend uses.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <unordered_map>

#include "kernels/emulator/block.h"
#include "kernels/emulator/launch.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/shared_memory.h"

struct CUstream_st {};
struct CUevent_st {};

namespace lukv::emulator {
namespace {

constexpr size_t kPlainSharedBytes = 48 * 1024;

std::recursive_mutex mutex;
cudaError_t sticky = cudaSuccess;
thread_local cudaError_t last_error = cudaSuccess;
std::unordered_map<const void*, size_t> shared_limits;

cudaError_t Done(cudaError_t error) {
  if (sticky != cudaSuccess) error = sticky;
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

cudaError_t LaunchErased(cudaStream_t /*stream*/, const void* function, dim3 grid, dim3 block, size_t shared_bytes,
                         LaunchBody body) {
  const std::lock_guard lock(mutex);
  if (sticky != cudaSuccess) return Done(sticky);
  const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return Done(cudaErrorInvalidConfiguration);
  }
  const auto limit = shared_limits.find(function);
  if (shared_bytes > (limit == shared_limits.end() ? kPlainSharedBytes : limit->second)) {
    return Done(cudaErrorInvalidValue);
  }
  if (!RunGrid({.function = function,
                .grid = grid,
                .block = block,
                .dynamic_shared_bytes = shared_bytes,
                .body = std::move(body)})) {
    sticky = LastReport().memory ? cudaErrorIllegalAddress : cudaErrorLaunchFailure;
  }
  return Done(cudaSuccess);
}

}  // namespace lukv::emulator

using lukv::emulator::Done;

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = bytes == 0 ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return Done(cudaSuccess);
}
cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return Done(cudaSuccess);
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) { return cudaMalloc(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind /*kind*/) {
  std::memmove(to, from, bytes);
  return Done(cudaSuccess);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t /*stream*/) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  std::memset(memory, value, bytes);
  return Done(cudaSuccess);
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t /*stream*/) {
  return cudaMemset(memory, value, bytes);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  *stream = new CUstream_st;
  return Done(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return Done(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t /*stream*/) { return Done(cudaSuccess); }
cudaError_t cudaDeviceSynchronize() { return Done(cudaSuccess); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  *event = new CUevent_st;
  return Done(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return Done(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t /*event*/, cudaStream_t /*stream*/) { return Done(cudaSuccess); }
cudaError_t cudaEventSynchronize(cudaEvent_t /*event*/) { return Done(cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return Done(cudaSuccess);
}
cudaError_t cudaSetDevice(int device) { return Done(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const std::lock_guard lock(lukv::emulator::mutex);
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value < 0 || static_cast<size_t>(value) > lukv::emulator::kMaxDynamicShared) {
      return Done(cudaErrorInvalidValue);
    }
    lukv::emulator::shared_limits[function] = static_cast<size_t>(value);
  }
  return Done(cudaSuccess);
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = lukv::emulator::sticky != cudaSuccess ? lukv::emulator::sticky : lukv::emulator::last_error;
  lukv::emulator::last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "an error"; }
