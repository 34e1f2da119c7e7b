#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"

namespace lukv::cuda {

namespace {
constexpr int kThreads = 256;
}

// One block per row. The sum goes over a thread's own columns, then over lanes, then over warps: always in this order.
template <typename T>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(RmsNormArgs args) {
  const int64_t row = blockIdx.x;
  const T* const x = args.x.row<T>(row);
  T* const out = args.out.row<T>(row);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < args.x.cols; i += kThreads) {
    const float value = ToFloat(x[i]);
    sum = fmaf(value, value, sum);
  }
  LUKV_SHARED(float, warp_sums, kThreads / kWarp);
  sum = WarpSum(sum);
  if (Lane() == 0) warp_sums[Warp()] = sum;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) total += warp_sums[warp];
  const float factor = 1.0f / sqrtf(total / static_cast<float>(args.x.cols) + args.epsilon);
  for (int64_t i = threadIdx.x; i < args.x.cols; i += kThreads) {
    out[i] = FromFloat<T>(ToFloat(x[i]) * factor * args.weight[i]);
  }
}

cudaError_t RmsNorm(const RmsNormArgs& args, const OpContext& context) {
  return DispatchFloat(args.x.dtype, [&]<typename T>() {
    return Launch(context.stream, &RmsNormKernel<T>, Blocks(args.x.rows, 1), kThreads, 0, args);
  });
}

}  // namespace lukv::cuda
