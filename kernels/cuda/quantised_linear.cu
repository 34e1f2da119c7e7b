// Linear layers on GGUF's quantised weights, and unpacking them.
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gguf_blocks.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/weights.h"

namespace lukv::cuda {
namespace {

constexpr int kThreads = 128;        // Of the kernels that unpack to memory.
constexpr int kLinearThreads = 512;  // A warp computes one output.
constexpr int kOutputsPerBlock = kLinearThreads / kWarp;
constexpr int kTileBlocks = kWarp;  // Weight blocks of a tile: one for each lane.
// A lane reads 32 inputs in a row; 4 more between the lanes put their 16-byte loads on different banks.
constexpr int kPaddedBlock = kUnpacked + 4;
constexpr int kTileFloats = kTileBlocks * kPaddedBlock;
constexpr int kMaxRows = 8;  // Input rows of one pass over the weights.

template <typename F>
cudaError_t DispatchQuantised(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kQ4_0:
      return f.template operator()<DType::kQ4_0>();
    case DType::kQ4_1:
      return f.template operator()<DType::kQ4_1>();
    case DType::kQ8_0:
      return f.template operator()<DType::kQ8_0>();
    case DType::kQ4_K:
      return f.template operator()<DType::kQ4_K>();
    case DType::kQ5_K:
      return f.template operator()<DType::kQ5_K>();
    case DType::kQ6_K:
      return f.template operator()<DType::kQ6_K>();
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

// A warp computes one output for up to kRows input rows from row0 on. Lane l takes blocks l, l + 32, ... of the
// weight's row; then the lanes' sums are added up.
template <DType kType, typename T, int kRows>
__global__ void __launch_bounds__(kLinearThreads)
    QuantisedLinearKernel(QuantisedLinearArgs args, int64_t row_bytes, int64_t row0) {
  LUKV_SHARED(float, tile, kRows* kTileFloats);
  const int64_t output = int64_t{blockIdx.x} * kOutputsPerBlock + Warp();
  const int64_t blocks = args.weight.cols / kUnpacked;
  const int rows = static_cast<int>(args.in.rows - row0 < kRows ? args.in.rows - row0 : kRows);
  float sums[kRows] = {};
  for (int64_t tile0 = 0; tile0 < blocks; tile0 += kTileBlocks) {
    __syncthreads();  // The last tile was read.
    const int64_t tile_cols = (blocks - tile0 < kTileBlocks ? blocks - tile0 : kTileBlocks) * kUnpacked;
    for (int r = 0; r < kRows; ++r) {
      const T* const in = args.in.row<T>(row0 + (r < rows ? r : 0)) + tile0 * kUnpacked;
      for (int64_t i = threadIdx.x; i < tile_cols; i += kLinearThreads) {
        tile[r * kTileFloats + i / kUnpacked * kPaddedBlock + i % kUnpacked] = ToFloat(in[i]);
      }
    }
    __syncthreads();
    const int64_t block = tile0 + Lane();
    if (block >= blocks || output >= args.weight.rows) continue;
    float values[kUnpacked];
    UnpackBlock<kType>(static_cast<const uint8_t*>(args.weight.data) + output * row_bytes, block, values);
    const float4* const in = reinterpret_cast<const float4*>(tile + Lane() * kPaddedBlock);
#pragma unroll
    for (int i = 0; i < kUnpacked / 4; ++i) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 four = in[r * (kTileFloats / 4) + i];
        sums[r] = fmaf(values[4 * i], four.x, sums[r]);
        sums[r] = fmaf(values[4 * i + 1], four.y, sums[r]);
        sums[r] = fmaf(values[4 * i + 2], four.z, sums[r]);
        sums[r] = fmaf(values[4 * i + 3], four.w, sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float sum = WarpSum(sums[r]);
    if (Lane() != 0 || r >= rows || output >= args.weight.rows) continue;
    if (args.bias != nullptr) sum += args.bias[output];
    if (args.out.dtype == DType::kF32) {
      float* const out = args.out.row<float>(row0 + r) + output;
      *out = args.accumulate ? *out + sum : sum;
    } else {
      __nv_bfloat16* const out = args.out.row<__nv_bfloat16>(row0 + r) + output;
      *out = FromFloat<__nv_bfloat16>(args.accumulate ? ToFloat(*out) + sum : sum);
    }
  }
}

// A thread unpacks one block.
template <DType kType, typename T>
__global__ void __launch_bounds__(kThreads)
    UnpackKernel(const uint8_t* data, int64_t blocks, int64_t blocks_per_row, int64_t row_bytes, T* out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= blocks) return;
  float values[kUnpacked];
  UnpackBlock<kType>(data + i / blocks_per_row * row_bytes, i % blocks_per_row, values);
#pragma unroll
  for (int j = 0; j < kUnpacked; ++j) out[i * kUnpacked + j] = FromFloat<T>(values[j]);
}

template <DType kType, typename T>
__global__ void __launch_bounds__(kThreads)
    EmbedQuantisedKernel(const uint8_t* data, int64_t row_bytes, const int32_t* ids, Matrix out) {
  const int64_t row = blockIdx.x;
  for (int64_t block = threadIdx.x; block < out.cols / kUnpacked; block += kThreads) {
    float values[kUnpacked];
    UnpackBlock<kType>(data + ids[row] * row_bytes, block, values);
#pragma unroll
    for (int j = 0; j < kUnpacked; ++j) out.row<T>(row)[block * kUnpacked + j] = FromFloat<T>(values[j]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) EmbedKernel(const T* table, const int32_t* ids, Matrix out) {
  const int64_t row = blockIdx.x;
  for (int64_t i = threadIdx.x; i < out.cols; i += kThreads) out.row<T>(row)[i] = table[ids[row] * out.cols + i];
}

cudaError_t QuantisedLinear(const QuantisedLinearArgs& args, const OpContext& context) {
  const int64_t row_bytes =
      args.weight.cols / Traits(args.weight.dtype).block_elements * Traits(args.weight.dtype).block_bytes;
  const unsigned grid = Blocks(args.weight.rows, kOutputsPerBlock);
  return DispatchQuantised(args.weight.dtype, [&]<DType kType>() {
    return DispatchFloat(args.in.dtype, [&]<typename T>() {
      for (int64_t row = 0; row < args.in.rows;) {
        const int64_t rest = args.in.rows - row;
        const auto kernel = rest == 1   ? &QuantisedLinearKernel<kType, T, 1>
                            : rest <= 4 ? &QuantisedLinearKernel<kType, T, 4>
                                        : &QuantisedLinearKernel<kType, T, kMaxRows>;
        LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, kernel, grid, kLinearThreads, 0, args, row_bytes, row));
        row += rest == 1 ? 1 : rest <= 4 ? 4 : kMaxRows;
      }
      return cudaSuccess;
    });
  });
}

cudaError_t Unpack(const WeightRows& weight, DType dtype, void* out, const OpContext& context) {
  const DTypeTraits& traits = Traits(weight.dtype);
  const int64_t row_bytes = weight.cols / traits.block_elements * traits.block_bytes;
  const int64_t blocks_per_row = weight.cols / kUnpacked;
  const int64_t blocks = weight.rows * blocks_per_row;
  return DispatchQuantised(weight.dtype, [&]<DType kType>() {
    return DispatchFloat(dtype, [&]<typename T>() {
      return Launch(context.stream, &UnpackKernel<kType, T>, Blocks(blocks, kThreads), kThreads, 0,
                    static_cast<const uint8_t*>(weight.data), blocks, blocks_per_row, row_bytes, static_cast<T*>(out));
    });
  });
}

cudaError_t Embed(const WeightRows& table, const int32_t* ids, const Matrix& out, const OpContext& context) {
  const unsigned grid = Blocks(out.rows, 1);
  return DispatchFloat(out.dtype, [&]<typename T>() {
    if (!table.quantised()) {
      return Launch(context.stream, &EmbedKernel<T>, grid, kThreads, 0, static_cast<const T*>(table.data), ids, out);
    }
    const DTypeTraits& traits = Traits(table.dtype);
    const int64_t row_bytes = table.cols / traits.block_elements * traits.block_bytes;
    return DispatchQuantised(table.dtype, [&]<DType kType>() {
      return Launch(context.stream, &EmbedQuantisedKernel<kType, T>, grid, kThreads, 0,
                    static_cast<const uint8_t*>(table.data), row_bytes, ids, out);
    });
  });
}

}  // namespace lukv::cuda
