// Scores that only the keys decide: their norms, and their likeness to the mean direction.
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/staged_rows.h"

namespace lukv::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kRowsAtOnce = kThreads / kRowLanes;  // Of a block.
// Entries whose directions a block adds up; the blocks' sums come together in ascending order.
constexpr int kEntriesPerSum = 8 * kRowsAtOnce;
constexpr int kAnchorThreads = 1024;

// The entry of this thread's row in its block, if there were enough of them.
LUKV_DEVICE int32_t KeyEntry() {
  return static_cast<int32_t>(blockIdx.x) * kRowsAtOnce + static_cast<int32_t>(threadIdx.x) / kRowLanes;
}

}  // namespace

template <typename T>
__global__ void __launch_bounds__(kThreads) KeyNormKernel(ScoreKeyNormArgs args, bool vectors) {
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const int32_t head_dim = args.context.staging.head_dim;
  const int32_t n = args.context.n_tokens;
  const int32_t entry = KeyEntry();
  const T* const keys = StagedRow<T>(args.context, args.context.staging.k, head);
  float k[kRowShare] = {};
  if (entry < n) LoadRowShare(keys + static_cast<int64_t>(entry) * head_dim, head_dim, vectors, k);
  const float squares = RowDot(k, k);
  if (entry < n && threadIdx.x % kRowLanes == 0) {
    args.scores.data[static_cast<int64_t>(head) * n + entry] = -sqrtf(squares);
  }
}

// scores = 1 / |k|, and sums[head][block] = sum of the block's keys over their norms. A key of zeros has no direction
// and counts as zeros.
template <typename T>
__global__ void __launch_bounds__(kThreads) KeyDirectionsKernel(ScoreKeyDiffArgs args, float* sums, bool vectors) {
  LUKV_SHARED(float, warp_sums, kThreads / kWarp * kMaxHeadDim);
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const int32_t head_dim = args.context.staging.head_dim;
  const int32_t n = args.context.n_tokens;
  const T* const keys = StagedRow<T>(args.context, args.context.staging.k, head);
  float sum[kRowShare] = {};
  const int32_t first =
      static_cast<int32_t>(blockIdx.x) * kEntriesPerSum + static_cast<int32_t>(threadIdx.x) / kRowLanes;
  for (int32_t i = 0; i < kEntriesPerSum; i += kRowsAtOnce) {
    const int32_t entry = first + i;
    float k[kRowShare] = {};
    if (entry < n) LoadRowShare(keys + static_cast<int64_t>(entry) * head_dim, head_dim, vectors, k);
    const float inverse = 1.0f / fmaxf(sqrtf(RowDot(k, k)), 1e-12f);
#pragma unroll
    for (int j = 0; j < kRowShare; ++j) sum[j] = fmaf(k[j], inverse, sum[j]);
    if (entry < n && threadIdx.x % kRowLanes == 0) {
      args.scores.data[static_cast<int64_t>(head) * n + entry] = inverse;
    }
  }
  // Over the rows of a warp, then over warps.
#pragma unroll
  for (int j = 0; j < kRowShare; ++j) {
#pragma unroll
    for (int offset = kRowLanes; offset < kWarp; offset *= 2) sum[j] += __shfl_xor_sync(kFullWarp, sum[j], offset);
    if (Lane() < kRowLanes) warp_sums[Warp() * kMaxHeadDim + RowDimension<T>(j)] = sum[j];
  }
  __syncthreads();
  float* const to = sums + (static_cast<int64_t>(head) * gridDim.x + blockIdx.x) * head_dim;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < head_dim; i += kThreads) {
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < kThreads / kWarp; ++warp) total += warp_sums[warp * kMaxHeadDim + i];
    to[i] = total;
  }
}

// anchors[head] = the mean direction, with a length of 1; zeros if there is none. Slice s of the block has every
// n_slices-th of the sums.
__global__ void __launch_bounds__(kAnchorThreads)
    KeyAnchorKernel(const float* sums, int32_t n_sums, int32_t head_dim, float* anchors) {
  LUKV_SHARED(float, partial, kAnchorThreads);
  LUKV_SHARED(float, squares, kMaxHeadDim);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t n_slices = kAnchorThreads / head_dim;
  const int32_t slice = thread / head_dim;
  const int32_t i = thread - slice * head_dim;
  const float* const from = sums + static_cast<int64_t>(blockIdx.x) * n_sums * head_dim + i;
  float total = 0;
  if (slice < n_slices) {
    for (int32_t s = slice; s < n_sums; s += n_slices) total += from[static_cast<int64_t>(s) * head_dim];
  }
  partial[thread] = total;
  __syncthreads();
  if (slice == 0) {
    for (int32_t s = 1; s < n_slices; ++s) total += partial[s * head_dim + i];
    squares[i] = total * total;
  }
  __syncthreads();
  if (slice == 0) {
    float square = 0;
    for (int32_t j = 0; j < head_dim; ++j) square += squares[j];
    anchors[static_cast<int64_t>(blockIdx.x) * head_dim + i] = square == 0 ? 0.0f : total / sqrtf(square);
  }
}

// scores = -(anchor . k) * scores, which hold 1 / |k|.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    KeyCosinesKernel(ScoreKeyDiffArgs args, const float* anchors, bool vectors) {
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const int32_t head_dim = args.context.staging.head_dim;
  const int32_t n = args.context.n_tokens;
  const int32_t entry = KeyEntry();
  const T* const keys = StagedRow<T>(args.context, args.context.staging.k, head);
  float k[kRowShare] = {};
  if (entry < n) LoadRowShare(keys + static_cast<int64_t>(entry) * head_dim, head_dim, vectors, k);
  float dot = 0;
#pragma unroll
  for (int i = 0; i < kRowShare; ++i) {
    const int32_t dimension = RowDimension<T>(i);
    if (dimension < head_dim) dot = fmaf(k[i], anchors[static_cast<int64_t>(head) * head_dim + dimension], dot);
  }
  dot = RowSum(dot);
  if (entry < n && threadIdx.x % kRowLanes == 0) args.scores.data[static_cast<int64_t>(head) * n + entry] *= -dot;
}

namespace {

dim3 KeyGrid(const StagedContext& context, int64_t entries_per_block) {
  return dim3(Blocks(context.n_tokens, entries_per_block), static_cast<unsigned>(context.staging.n_kv_heads));
}

}  // namespace

cudaError_t ScoreKeyNorm(const ScoreKeyNormArgs& args, const OpContext& context) {
  return DispatchFloat(args.context.staging.dtype, [&]<typename T>() {
    return Launch(context.stream, &KeyNormKernel<T>, KeyGrid(args.context, kRowsAtOnce), kThreads, 0, args,
                  StagedVectors(args.context.staging));
  });
}

cudaError_t ScoreKeyDiff(const ScoreKeyDiffArgs& args, const OpContext& context) {
  const StagingView& staging = args.context.staging;
  const bool vectors = StagedVectors(staging);
  const dim3 grid = KeyGrid(args.context, kEntriesPerSum);
  const int64_t n_sums = static_cast<int64_t>(grid.x) * staging.n_kv_heads;
  void* memory = nullptr;
  const int64_t floats = (n_sums + staging.n_kv_heads) * staging.head_dim;
  LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(static_cast<size_t>(floats) * sizeof(float), &memory));
  float* const sums = static_cast<float*>(memory);
  float* const anchors = sums + n_sums * staging.head_dim;
  return DispatchFloat(staging.dtype, [&]<typename T>() -> cudaError_t {
    LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &KeyDirectionsKernel<T>, grid, kThreads, 0, args, sums, vectors));
    LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &KeyAnchorKernel, static_cast<unsigned>(staging.n_kv_heads),
                                     kAnchorThreads, 0, static_cast<const float*>(sums), static_cast<int32_t>(grid.x),
                                     staging.head_dim, anchors));
    return Launch(context.stream, &KeyCosinesKernel<T>, KeyGrid(args.context, kRowsAtOnce), kThreads, 0, args,
                  static_cast<const float*>(anchors), vectors);
  });
}

}  // namespace lukv::cuda
