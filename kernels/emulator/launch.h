// Launching a kernel on the emulated device.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <utility>

namespace lukv::emulator {

// A kernel with its arguments.
struct LaunchBody {
  std::shared_ptr<const void> data;
  size_t bytes = 0;  // Of `data`, which holds the arguments: kernels may read it.
  void (*run)(const void* data) = nullptr;
};

// Enqueues. `function` is the kernel's address: its attributes and its name.
cudaError_t LaunchErased(cudaStream_t stream, const void* function, dim3 grid, dim3 block, size_t shared_bytes,
                         LaunchBody body);

template <typename Body>
cudaError_t Launch(cudaStream_t stream, const void* function, dim3 grid, dim3 block, size_t shared_bytes, Body body) {
  return LaunchErased(stream, function, grid, block, shared_bytes,
                      {.data = std::make_shared<const Body>(std::move(body)),
                       .bytes = sizeof(Body),
                       .run = [](const void* data) { (*static_cast<const Body*>(data))(); }});
}

}  // namespace lukv::emulator
