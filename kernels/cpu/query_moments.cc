#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/query_moments.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_tiles-inl.h"

#ifndef LUKV_KERNELS_CPU_QUERY_MOMENTS_TASKS
#define LUKV_KERNELS_CPU_QUERY_MOMENTS_TASKS
namespace lukv::cpu {

// The rows of a head's products are dealt in blocks of kMaxLanes. Of a symmetric matrix a block has the less to do the
// later it comes; part i of a head does block i from the front and block i from the back, so that all are the same.
constexpr int32_t MomentBlocks(int32_t head_dim) { return (head_dim + kMaxLanes - 1) / kMaxLanes; }
constexpr int32_t MomentParts(int32_t head_dim) { return (MomentBlocks(head_dim) + 1) / 2; }

// Queries that are centred before they are multiplied: they stay in the first-level cache meanwhile.
inline constexpr int64_t kQueriesAtOnce = 64;

}  // namespace lukv::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// products[i + r][j + c] += sum over n queries of x[i + r] * x[j + c], one after the other, for kRows rows and kVectors
// vectors of columns. Queries lie PaddedDim apart, with zeros from head_dim on.
template <int kRows, int kVectors>
HWY_INLINE void AddProducts(const float* HWY_RESTRICT queries, int64_t n, size_t head_dim, size_t i, size_t j,
                            float* HWY_RESTRICT products) {
  const FloatTag d;
  const size_t stride = PaddedDim(static_cast<int32_t>(head_dim));
  const auto columns = [&](int v) HWY_ATTR {
    const size_t column = j + static_cast<size_t>(v) * kLanes;
    return hn::FirstN(d, column < head_dim ? std::min(head_dim - column, kLanes) : 0);
  };
  float* to = products + i * head_dim + j;
  FloatVec sums[kRows][kVectors];
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const bool exists = i + static_cast<size_t>(r) < head_dim;
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::Zero(d);
      if (exists) sums[r][v] = hn::MaskedLoad(columns(v), d, to + static_cast<size_t>(r) * head_dim + v * kLanes);
    }
  }
  for (int64_t t = 0; t < n; ++t, queries += stride) {
    FloatVec column[kVectors];
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) column[v] = hn::LoadU(d, queries + j + static_cast<size_t>(v) * kLanes);
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const FloatVec row = hn::Set(d, queries[i + static_cast<size_t>(r)]);
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(row, column[v], sums[r][v]);
    }
  }
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (i + static_cast<size_t>(r) >= head_dim) break;
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      hn::BlendedStore(sums[r][v], columns(v), d, to + static_cast<size_t>(r) * head_dim + v * kLanes);
    }
  }
}

// kLanes rows of products from row i on, a multiple of kLanes; columns from i on.
HWY_INLINE void AddProductRows(const float* queries, int64_t n, size_t head_dim, size_t i, float* products) {
  static_assert(kVectorsAtOnce == 2 || kVectorsAtOnce == 4);
  // Few vectors across leave registers for more rows.
  constexpr size_t kFew = 8;
  constexpr size_t kMany = 4;
  size_t j = i;
  for (; j + (kVectorsAtOnce - 1) * kLanes < head_dim; j += kVectorsAtOnce * kLanes) {
    for (size_t r = i; r < i + kLanes; r += kMany)
      AddProducts<kMany, kVectorsAtOnce>(queries, n, head_dim, r, j, products);
  }
  const size_t left = j < head_dim ? (head_dim - j + kLanes - 1) / kLanes : 0;
  for (size_t r = i; r < i + kLanes && left != 0; r += kFew) {
    if (left == 1) AddProducts<kFew, 1>(queries, n, head_dim, r, j, products);
    if constexpr (kVectorsAtOnce == 4) {
      if (left == 2) AddProducts<kFew, 2>(queries, n, head_dim, r, j, products);
      if (left == 3) AddProducts<kFew, 3>(queries, n, head_dim, r, j, products);
    }
  }
}

// sum += each of n queries.
HWY_INLINE void AddQueries(const float* HWY_RESTRICT queries, int64_t n, size_t head_dim, float* HWY_RESTRICT sum) {
  const size_t stride = PaddedDim(static_cast<int32_t>(head_dim));
  for (int64_t t = 0; t < n; ++t, queries += stride) {
    for (size_t i = 0; i < head_dim; ++i) sum[i] += queries[i];
  }
}

// One head's query of a row, normed if need be.
HWY_INLINE const float* LoadQuery(const QueryMomentsArgs& args, int64_t row, int32_t head, float* normed) {
  const size_t head_dim = static_cast<size_t>(args.head_dim);
  const float* q = args.qkv.row<float>(row) + static_cast<size_t>(head) * head_dim;
  if (args.q_norm == nullptr) return q;
  NormHead(q, head_dim, args.q_norm, args.norm_epsilon, normed);
  return normed;
}

// The first query becomes the pivot of the head.
void SetPivot(const QueryMomentsArgs& args, int32_t head, float* normed) {
  const float* q = LoadQuery(args, args.row_begin, head, normed);
  std::copy_n(q, args.head_dim, args.moments.pivot + static_cast<size_t>(head) * static_cast<size_t>(args.head_dim));
}

// scratch: [kQueriesAtOnce + 1, PaddedDim]
void AddMoments(const QueryMomentsArgs& args, int32_t head, int32_t part, float* scratch) {
  const size_t head_dim = static_cast<size_t>(args.head_dim);
  const size_t stride = PaddedDim(args.head_dim);
  const float* pivot = args.moments.pivot + static_cast<size_t>(head) * head_dim;
  float* sum = args.moments.sum + static_cast<size_t>(head) * head_dim;
  float* products = args.moments.products + static_cast<size_t>(head) * head_dim * head_dim;
  float* normed = scratch + kQueriesAtOnce * stride;
  const int32_t blocks[2] = {part, MomentBlocks(args.head_dim) - 1 - part};
  const int n_blocks = blocks[0] == blocks[1] ? 1 : 2;
  if (args.reset) {
    if (part == 0) std::fill_n(sum, head_dim, 0.0f);
    for (int b = 0; b < n_blocks; ++b) {
      const size_t begin = static_cast<size_t>(blocks[b]) * kMaxLanes;
      std::fill(products + begin * head_dim, products + std::min(begin + kMaxLanes, head_dim) * head_dim, 0.0f);
    }
  }
  for (int64_t begin = args.row_begin; begin < args.row_end; begin += kQueriesAtOnce) {
    const int64_t n = std::min(kQueriesAtOnce, args.row_end - begin);
    for (int64_t t = 0; t < n; ++t) {
      const float* q = LoadQuery(args, begin + t, head, normed);
      float* centred = scratch + static_cast<size_t>(t) * stride;
      for (size_t i = 0; i < head_dim; ++i) centred[i] = q[i] - pivot[i];
      std::fill(centred + head_dim, centred + stride, 0.0f);
    }
    if (part == 0) AddQueries(scratch, n, head_dim, sum);
    for (int b = 0; b < n_blocks; ++b) {
      const size_t first = static_cast<size_t>(blocks[b]) * kMaxLanes;
      for (size_t i = first; i < std::min(first + kMaxLanes, head_dim); i += kLanes) {
        AddProductRows(scratch, n, head_dim, i, products);
      }
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(SetPivot);
HWY_EXPORT(AddMoments);

void QueryMoments(const QueryMomentsArgs& args, OpContext& context) {
  const size_t stride = PaddedDim(args.head_dim);
  const size_t bytes = (kQueriesAtOnce + 1) * stride * sizeof(float);
  if (args.reset) {
    float* normed = reinterpret_cast<float*>(context.Scratch(-1, stride * sizeof(float)));
    for (int32_t h = 0; h < args.n_heads; ++h) LUKV_DISPATCH(context, SetPivot)(args, h, normed);
  }
  const int32_t parts = MomentParts(args.head_dim);
  context.pool.ParallelFor(int64_t{args.n_heads} * parts, [&](int64_t task, int thread) {
    LUKV_DISPATCH(context, AddMoments)
    (args, static_cast<int32_t>(task / parts), static_cast<int32_t>(task % parts),
     reinterpret_cast<float*>(context.Scratch(thread, bytes)));
  });
}

}  // namespace lukv::cpu
#endif
