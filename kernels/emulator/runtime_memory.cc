// The runtime API's memory: allocation, copies, fills.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/emulator/memory.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/runtime.h"

namespace lukv::emulator {
namespace {

// What an operation finds that was right when it was queued.
cudaError_t Gone(const char* what) {
  MakeReport({.what = what, .memory = true});
  return cudaErrorIllegalAddress;
}

cudaMemcpyKind KindOf(const void* to, const void* from) {
  const bool to_device = DeviceMemory::Get().Contains(to);
  if (DeviceMemory::Get().Contains(from)) return to_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost;
  return to_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost;
}

cudaError_t IssueCopy(Runtime& runtime, CUstream_st* stream, void* to, const void* from, size_t bytes) {
  const bool to_device = DeviceMemory::Get().Contains(to);
  const bool from_device = DeviceMemory::Get().Contains(from);
  const bool to_pinned = PinnedMemory::Get().Holds(to, bytes);
  const bool from_pinned = PinnedMemory::Get().Holds(from, bytes);
  // Of other host memory the runtime makes a copy of its own before it returns.
  std::shared_ptr<std::vector<std::byte>> staged;
  if (!from_device && !from_pinned) {
    const auto* const bytes_of = static_cast<const std::byte*>(from);
    staged = std::make_shared<std::vector<std::byte>>(bytes_of, bytes_of + bytes);
  }
  const auto copy = [=] {
    if ((to_device && !DeviceMemory::Get().Holds(to, bytes)) ||
        (from_device && !DeviceMemory::Get().Holds(from, bytes))) {
      return Gone("a queued copy meets device memory that was freed");
    }
    if ((to_pinned && !PinnedMemory::Get().Holds(to, bytes)) ||
        (from_pinned && !PinnedMemory::Get().Holds(from, bytes))) {
      return Gone("a queued copy meets pinned memory that was freed");
    }
    std::memmove(to, staged == nullptr ? from : staged->data(), bytes);
    return cudaSuccess;
  };
  if (const cudaError_t error = runtime.Issue(stream, copy); error != cudaSuccess) return error;
  // CUDA runtime API, "API synchronization behavior": a copy to pageable memory returns when it is done.
  const bool waits = !to_device && !to_pinned && stream->capture == nullptr;
  return waits ? runtime.Drain(stream) : cudaSuccess;
}

cudaError_t Copy(const char* function, void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                 cudaStream_t stream, bool waits) {
  return Call([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return Refuse(function, "unknown stream", cudaErrorInvalidResourceHandle);
    if (waits) {
      if (const cudaError_t error = runtime.ForbidWhileCapturing(); error != cudaSuccess) return error;
    }
    if (bytes == 0) return cudaSuccess;
    if (to == nullptr || from == nullptr) return Refuse(function, "null pointer", cudaErrorInvalidValue);
    if (kind != cudaMemcpyDefault && kind != KindOf(to, from)) {
      return Refuse(function, "the pointers are not of the direction's kind", cudaErrorInvalidValue);
    }
    for (const void* memory : {static_cast<const void*>(to), from}) {
      if (DeviceMemory::Get().Contains(memory) && !DeviceMemory::Get().Holds(memory, bytes)) {
        return Refuse(function,
                      std::to_string(bytes) + " bytes are not in one allocation: " +
                          DeviceMemory::Get().Describe(reinterpret_cast<uintptr_t>(memory) + bytes - 1),
                      cudaErrorInvalidValue);
      }
    }
    const cudaError_t error = IssueCopy(runtime, on, to, from, bytes);
    return error == cudaSuccess && waits ? runtime.Drain(on) : error;
  });
}

cudaError_t Fill(const char* function, void* memory, int value, size_t bytes, cudaStream_t stream) {
  return Call([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return Refuse(function, "unknown stream", cudaErrorInvalidResourceHandle);
    if (bytes == 0) return cudaSuccess;
    if (!DeviceMemory::Get().Holds(memory, bytes)) {
      return Refuse(function, "not within an allocation of the device", cudaErrorInvalidValue);
    }
    return runtime.Issue(on, [=] {
      if (!DeviceMemory::Get().Holds(memory, bytes)) return Gone("a queued fill meets device memory that was freed");
      std::memset(memory, value, bytes);
      return cudaSuccess;
    });
  });
}

}  // namespace
}  // namespace lukv::emulator

using lukv::emulator::Call;
using lukv::emulator::DeviceMemory;
using lukv::emulator::PinnedMemory;
using lukv::emulator::Refuse;
using lukv::emulator::Release;
using lukv::emulator::Runtime;

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  return Call(
      [&](Runtime& runtime) {
        if (const cudaError_t error = runtime.ForbidWhileCapturing(); error != cudaSuccess) return error;
        *memory = nullptr;
        if (bytes == 0) return cudaSuccess;
        *memory = DeviceMemory::Get().Allocate(bytes);
        return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
      },
      cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* memory) {
  return Release([&](Runtime& runtime) {
    if (memory == nullptr) return cudaSuccess;
    if (const cudaError_t error = runtime.ForbidWhileCapturing(); error != cudaSuccess) return error;
    // Work that still uses the memory comes first.
    runtime.DrainAll();
    if (DeviceMemory::Get().Free(memory)) return cudaSuccess;
    return Refuse("cudaFree", "not the start of an allocation", cudaErrorInvalidValue);
  });
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  return Call(
      [&](Runtime& runtime) {
        if (const cudaError_t error = runtime.ForbidWhileCapturing(); error != cudaSuccess) return error;
        *memory = bytes == 0 ? nullptr : PinnedMemory::Get().Allocate(bytes);
        return bytes != 0 && *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
      },
      cudaErrorMemoryAllocation);
}

// Waits for the device, as the real one does.
cudaError_t cudaFreeHost(void* memory) {
  return Release([&](Runtime& runtime) {
    if (memory == nullptr) return cudaSuccess;
    if (const cudaError_t error = runtime.ForbidWhileCapturing(); error != cudaSuccess) return error;
    runtime.DrainAll();
    if (PinnedMemory::Get().Free(memory)) return cudaSuccess;
    return Refuse("cudaFreeHost", "not the start of pinned memory", cudaErrorInvalidValue);
  });
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream) {
  return Call(
      [&](Runtime& runtime) {
        CUstream_st* const on = runtime.Find(stream);
        if (on == nullptr) return cudaErrorInvalidResourceHandle;
        if (on->capture != nullptr) {
          return Refuse("cudaMallocAsync", "not emulated while a graph is recorded", cudaErrorNotSupported);
        }
        *memory = bytes == 0 ? nullptr : DeviceMemory::Get().Allocate(bytes);
        return bytes != 0 && *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
      },
      cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  return Release([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return cudaErrorInvalidResourceHandle;
    if (!DeviceMemory::Get().Holds(memory, 1)) {
      return Refuse("cudaFreeAsync", "not an allocation", cudaErrorInvalidValue);
    }
    return runtime.Issue(on, [memory] {
      return DeviceMemory::Get().Free(memory) ? cudaSuccess
                                              : lukv::emulator::Gone("a queued free meets memory that was freed");
    });
  });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return Call([&](Runtime&) {
    *free_bytes = DeviceMemory::Get().free_bytes();
    *total_bytes = DeviceMemory::Get().total_bytes();
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return lukv::emulator::Copy("cudaMemcpy", to, from, bytes, kind, nullptr, /*waits=*/true);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return lukv::emulator::Copy("cudaMemcpyAsync", to, from, bytes, kind, stream, /*waits=*/false);
}

// Does not wait: CUDA runtime API, "API synchronization behavior".
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  return lukv::emulator::Fill("cudaMemset", memory, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return lukv::emulator::Fill("cudaMemsetAsync", memory, value, bytes, stream);
}
