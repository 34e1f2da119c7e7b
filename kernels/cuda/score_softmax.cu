#include "kernels/cuda/score_softmax.h"

#include <cfloat>

#include "kernels/cuda/launch.h"

namespace lukv::cuda {

namespace {

constexpr int kMergeRows = kWarp;  // Of a block: neighbours in memory.
constexpr int kMergeSlices = 32;   // Slice s has every kMergeSlices-th part, beginning with part s.
constexpr int kFillThreads = 1024;

}  // namespace

__global__ void __launch_bounds__(kMergeRows* kMergeSlices)
    MergeSoftmaxKernel(SoftmaxParts parts, float* max, float* factor) {
  LUKV_SHARED(float, slices, kMergeSlices* kMergeRows);
  const int32_t lane = Lane();
  const int32_t row = static_cast<int32_t>(blockIdx.x) * kMergeRows + lane;
  const bool exists = row < parts.rows;
  float greatest = -FLT_MAX;
  for (int32_t p = Warp(); exists && p < parts.parts; p += kMergeSlices) {
    greatest = fmaxf(greatest, parts.max[static_cast<int64_t>(p) * parts.rows + row]);
  }
  slices[threadIdx.x] = greatest;
  __syncthreads();
  for (int slice = 0; slice < kMergeSlices; ++slice) greatest = fmaxf(greatest, slices[slice * kMergeRows + lane]);
  __syncthreads();
  float sum = 0;
  for (int32_t p = Warp(); exists && p < parts.parts; p += kMergeSlices) {
    const int64_t at = static_cast<int64_t>(p) * parts.rows + row;
    sum = fmaf(parts.sum[at], exp2f(parts.max[at] - greatest), sum);
  }
  slices[threadIdx.x] = sum;
  __syncthreads();
  if (Warp() != 0 || !exists) return;
  float total = 0;
  for (int slice = 0; slice < kMergeSlices; ++slice) total += slices[slice * kMergeRows + lane];
  max[row] = greatest;
  factor[row] = 1.0f / total;
}

// One block: it is a few numbers, and a few entries.
__global__ void __launch_bounds__(kFillThreads)
    FillProtectedKernel(ScoreMatrix scores, int32_t first, int32_t n, const float* greatest, int64_t n_greatest) {
  LUKV_SHARED(float, warps, kFillThreads / kWarp);
  float most = 0;
  for (int64_t i = threadIdx.x; i < n_greatest; i += kFillThreads) most = fmaxf(most, greatest[i]);
  most = WarpMax(most);
  if (Lane() == 0) warps[Warp()] = most;
  __syncthreads();
  most = WarpMax(warps[Lane()]);
  for (int64_t i = threadIdx.x; i < static_cast<int64_t>(n) * scores.n_kv_heads; i += kFillThreads) {
    scores.data[i / n * scores.n_tokens + first + i % n] = most + 1;
  }
}

cudaError_t MergeSoftmax(const SoftmaxParts& parts, float* max, float* factor, const OpContext& context) {
  return Launch(context.stream, &MergeSoftmaxKernel, Blocks(parts.rows, kMergeRows), kMergeRows * kMergeSlices, 0,
                parts, max, factor);
}

cudaError_t FillProtected(const ScoreMatrix& scores, int32_t first, int32_t n, const float* greatest,
                          int64_t n_greatest, const OpContext& context) {
  return Launch(context.stream, &FillProtectedKernel, 1, kFillThreads, 0, scores, first, n, greatest, n_greatest);
}

}  // namespace lukv::cuda
