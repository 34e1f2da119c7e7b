// Adding biases before a GEMM, and changing single words of a table.
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/weights.h"

namespace lukv::cuda {
namespace {

constexpr int kThreads = 256;

}  // namespace

template <typename T>
__global__ void __launch_bounds__(kThreads) AddBiasKernel(const float* bias, bool accumulate, Matrix out) {
  T* const row = out.row<T>(blockIdx.x);
  for (int64_t i = threadIdx.x; i < out.cols; i += kThreads) {
    row[i] = FromFloat<T>(accumulate ? ToFloat(row[i]) + bias[i] : bias[i]);
  }
}

__global__ void __launch_bounds__(kThreads) ScatterKernel(uint32_t* to, const ScatterUpdate* updates, int32_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) to[updates[i].index] = updates[i].value;
}

cudaError_t AddBias(const float* bias, bool accumulate, const Matrix& out, const OpContext& context) {
  return DispatchFloat(out.dtype, [&]<typename T>() {
    return Launch(context.stream, &AddBiasKernel<T>, Blocks(out.rows, 1), kThreads, 0, bias, accumulate, out);
  });
}

cudaError_t Scatter(uint32_t* to, const ScatterUpdate* updates, int32_t n, const OpContext& context) {
  return Launch(context.stream, &ScatterKernel, Blocks(n, kThreads), kThreads, 0, to, updates, n);
}

}  // namespace lukv::cuda
