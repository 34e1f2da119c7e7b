// SiluMul and GatherRows.
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/vectors.h"

namespace lukv::cuda {

namespace {

constexpr int kThreads = 256;

// x / (1 + e^-x). e^-x is taken for |x| alone, where it cannot overflow: for x < 0 it is x * e^x / (1 + e^x).
LUKV_DEVICE float Silu(float x) {
  const float e = expf(-fabsf(x));
  return (x < 0 ? x * e : x) / (1.0f + e);
}

}  // namespace

// A block has kThreads vectors of one row, the rows' blocks follow each other.
template <typename T>
__global__ void __launch_bounds__(kThreads) SiluMulKernel(SiluMulArgs args, unsigned row_blocks, bool vectors) {
  constexpr int kCount = kVector<T>;
  const int64_t row = blockIdx.x / row_blocks;
  const int64_t col = (static_cast<int64_t>(blockIdx.x % row_blocks) * kThreads + threadIdx.x) * kCount;
  if (col >= args.out.cols) return;
  const int count = static_cast<int>(min(args.out.cols - col, static_cast<int64_t>(kCount)));
  const T* const gate_at = args.gate_up.row<T>(row) + col;
  float gate[kCount];
  float up[kCount];
  LoadElements(gate_at, count, vectors, gate);
  LoadElements(gate_at + args.out.cols, count, vectors, up);
#pragma unroll
  for (int i = 0; i < kCount; ++i) gate[i] = Silu(gate[i]) * up[i];
  StoreElements(gate, count, vectors, args.out.row<T>(row) + col);
}

// Rows are `units` units long and in_units and out_units apart.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) GatherRowsKernel(const Unit* in, int64_t in_units, const int32_t* rows,
                                                             Unit* out, int64_t out_units, int64_t units) {
  const Unit* const from = in + rows[blockIdx.x] * in_units;
  Unit* const to = out + static_cast<int64_t>(blockIdx.x) * out_units;
  for (int64_t i = threadIdx.x; i < units; i += kThreads) to[i] = from[i];
}

cudaError_t SiluMul(const SiluMulArgs& args, const OpContext& context) {
  return DispatchFloat(args.out.dtype, [&]<typename T>() {
    const int64_t element = sizeof(T);
    const unsigned row_blocks = Blocks(args.out.cols, kThreads * kVector<T>);
    const bool vectors = args.out.cols % kVector<T> == 0 &&
                         IsVectorAligned(args.gate_up.data, args.gate_up.stride * element) &&
                         IsVectorAligned(args.out.data, args.out.stride * element);
    return Launch(context.stream, &SiluMulKernel<T>, Blocks(args.out.rows * row_blocks, 1), kThreads, 0, args,
                  row_blocks, vectors);
  });
}

namespace {

template <typename Unit>
cudaError_t Gather(const GatherRowsArgs& args, const OpContext& context) {
  const int64_t element = ElementBytes(args.in.dtype);
  const auto units = [&](int64_t elements) { return elements * element / static_cast<int64_t>(sizeof(Unit)); };
  return Launch(context.stream, &GatherRowsKernel<Unit>, Blocks(args.out.rows, 1), kThreads, 0,
                static_cast<const Unit*>(args.in.data), units(args.in.stride), args.rows,
                static_cast<Unit*>(args.out.data), units(args.out.stride), units(args.in.cols));
}

}  // namespace

cudaError_t GatherRows(const GatherRowsArgs& args, const OpContext& context) {
  const int64_t element = ElementBytes(args.in.dtype);
  const bool vectors = args.in.cols * element % 16 == 0 && IsVectorAligned(args.in.data, args.in.stride * element) &&
                       IsVectorAligned(args.out.data, args.out.stride * element);
  return vectors ? Gather<uint4>(args, context) : Gather<uint16_t>(args, context);
}

}  // namespace lukv::cuda
