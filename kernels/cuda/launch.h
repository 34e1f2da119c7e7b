// Launching a kernel, on a device or on the emulator.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/cuda/op_context.h"

#ifdef LUKV_CUDA_EMULATED
#include "kernels/emulator/launch.h"
#endif

namespace lukv::cuda {

// kernel<<<grid, block, shared_bytes, stream>>>(args...). The arguments are copied before it returns. A grid without
// blocks is a mistake of the caller (cudaErrorInvalidConfiguration).
template <typename... Parameters, typename... Arguments>
cudaError_t Launch(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  const void* const function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > kPlainSharedBytes) {
    LUKV_CUDA_RETURN_IF_ERROR(
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
#ifdef LUKV_CUDA_EMULATED
  return emulator::Launch(stream, function, grid, block, shared_bytes,
                          [kernel, values] { std::apply(kernel, values); });
#else
  return std::apply(
      [&](auto&... value) {
        void* pointers[] = {static_cast<void*>(&value)...};
        return cudaLaunchKernel(function, grid, block, pointers, shared_bytes, stream);
      },
      values);
#endif
}

}  // namespace lukv::cuda
