#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/vectors.h"

namespace lukv::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlocksPerMultiprocessor = 8;  // As many as run at once.

}  // namespace

// The lengths are known on the device alone: blocks go over the entries of a head (blockIdx.y) until there are no more.
// A row is row_units units, a thread copies one of K and one of V at a time. A head's units number below 2^32.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) CompactKernel(CompactArgs args, uint32_t row_units) {
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const int64_t index = PageHeadIndex(args.table, args.slot, args.layer, head);
  const uint32_t units = static_cast<uint32_t>(args.table.kept[index]) * row_units;
  const int32_t* const rows = args.kept_rows == nullptr ? nullptr : args.kept_rows + args.kept_offset[head];
  const int64_t first_row = StagingRow(args.staging, head, args.context_row);
  const Unit* const k = static_cast<const Unit*>(args.staging.k) + first_row * row_units;
  const Unit* const v = static_cast<const Unit*>(args.staging.v) + first_row * row_units;
  Unit* const pages = static_cast<Unit*>(args.pages.base);
  for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < units; i += gridDim.x * kThreads) {
    const uint32_t entry = i / row_units;
    const uint32_t unit = i - entry * row_units;
    const int64_t from = rows == nullptr ? static_cast<int64_t>(entry) : rows[entry];
    const int64_t to = PageRow(args.pages, args.table, index, static_cast<int32_t>(entry));
    pages[to * row_units + unit] = k[from * row_units + unit];
    pages[(to + args.pages.page_tokens) * row_units + unit] = v[from * row_units + unit];
  }
}

// A block copies one page.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) CopyPagesKernel(Unit* pages, int64_t page_units, const PageCopy* copies) {
  const Unit* const from = pages + copies[blockIdx.x].from * page_units;
  Unit* const to = pages + copies[blockIdx.x].to * page_units;
  for (int64_t i = threadIdx.x; i < page_units; i += kThreads) to[i] = from[i];
}

namespace {

template <typename Unit>
cudaError_t CopyUnits(const PageStoreView& pages, int64_t page_bytes, const PageCopy* copies, int32_t n,
                      const OpContext& context) {
  return Launch(context.stream, &CopyPagesKernel<Unit>, static_cast<unsigned>(n), kThreads, 0,
                static_cast<Unit*>(pages.base), page_bytes / static_cast<int64_t>(sizeof(Unit)), copies);
}

}  // namespace

cudaError_t CopyPages(const PageStoreView& pages, const PageCopy* copies, int32_t n, const OpContext& context) {
  const int64_t page_bytes = int64_t{2} * pages.page_tokens * pages.head_dim * ElementBytes(pages.dtype);
  return IsVectorAligned(pages.base, page_bytes) ? CopyUnits<uint4>(pages, page_bytes, copies, n, context)
                                                 : CopyUnits<uint32_t>(pages, page_bytes, copies, n, context);
}

cudaError_t Compact(const CompactArgs& args, const OpContext& context) {
  const int64_t row_bytes = args.staging.head_dim * ElementBytes(args.staging.dtype);
  const bool vectors = IsVectorAligned(args.staging.k, row_bytes) && IsVectorAligned(args.staging.v, row_bytes) &&
                       IsVectorAligned(args.pages.base, row_bytes);
  // head_dim is even: rows are whole words.
  const int64_t unit_bytes = vectors ? sizeof(uint4) : sizeof(uint32_t);
  const int64_t row_units = row_bytes / unit_bytes;
  const int64_t most = static_cast<int64_t>(args.staging.capacity - args.context_row) * row_units;
  const int64_t useful = Blocks(kBlocksPerMultiprocessor * context.multiprocessors, args.table.n_kv_heads);
  const int64_t blocks = Blocks(most, kThreads);
  const dim3 grid(static_cast<unsigned>(blocks < useful ? blocks : useful),
                  static_cast<unsigned>(args.table.n_kv_heads));
  return Launch(context.stream, vectors ? &CompactKernel<uint4> : &CompactKernel<uint32_t>, grid, kThreads, 0, args,
                static_cast<uint32_t>(row_units));
}

}  // namespace lukv::cuda
