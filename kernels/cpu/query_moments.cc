#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

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

// What is done for a head comes in parts, all the same size. A part is some blocks of kMaxLanes rows of the products:
// of a symmetric matrix a block has the less to do the later it comes, so part i has block i from the front and block i
// from the back. A task is a whole head, or a part where there are too few heads left for all threads; to an element it
// makes no difference.
constexpr int32_t MomentBlocks(int32_t head_dim) { return (head_dim + kMaxLanes - 1) / kMaxLanes; }
constexpr int32_t MomentParts(int32_t head_dim) { return (MomentBlocks(head_dim) + 1) / 2; }
struct MomentTask {
  int32_t head = 0;
  int32_t first_part = 0;
  int32_t end_part = 0;
};

// Queries that are centred before they are multiplied: they stay in the first-level cache meanwhile.
inline constexpr int64_t kQueriesAtOnce = 64;

}  // namespace lukv::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

// products[i + r][j + c] += sum over n queries of x[i + r] * x[j + c], one after the other, for kRows rows and kVectors
// vectors of columns. Queries lie PaddedDim apart, with zeros from head_dim on.
template <int kRows, int kVectors, class D>
HWY_INLINE void AddProducts(D d, const float* HWY_RESTRICT queries, int64_t n, size_t head_dim, size_t i, size_t j,
                            float* HWY_RESTRICT products) {
  constexpr size_t kStep = hn::MaxLanes(D());
  const size_t stride = PaddedDim(static_cast<int32_t>(head_dim));
  const auto columns = [&](int v) HWY_ATTR {
    const size_t column = j + static_cast<size_t>(v) * kStep;
    return hn::FirstN(d, column < head_dim ? std::min(head_dim - column, kStep) : 0);
  };
  float* to = products + i * head_dim + j;
  const float* row = queries + i;
  const float* column = queries + j;
  hn::Vec<D> sums[kRows][kVectors];
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const bool exists = i + static_cast<size_t>(r) < head_dim;
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::Zero(d);
      if (exists) sums[r][v] = hn::MaskedLoad(columns(v), d, to + static_cast<size_t>(r) * head_dim + v * kStep);
    }
  }
  for (int64_t t = 0; t < n; ++t, row += stride, column += stride) {
    hn::Vec<D> x[kVectors];
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) x[v] = hn::LoadU(d, column + v * kStep);
    LUKV_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, row[r]);
      LUKV_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(factor, x[v], sums[r][v]);
    }
  }
  LUKV_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (i + static_cast<size_t>(r) >= head_dim) break;
    LUKV_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      hn::BlendedStore(sums[r][v], columns(v), d, to + static_cast<size_t>(r) * head_dim + v * kStep);
    }
  }
}

// Eight rows of products from row i on, a multiple of 8; columns from i on.
HWY_INLINE void AddEightRows(const float* queries, int64_t n, size_t head_dim, size_t i, float* products) {
  static_assert(kVectorsAtOnce == 2 || kVectorsAtOnce == 4);
  const FloatTag d;
  size_t j = i;
  if (kLanes > 8 && i % kLanes != 0) {
    // The corner at the diagonal is half a vector wide, and half the work where vectors take two cycles.
    AddProducts<8, 1>(hn::CappedTag<float, 8>(), queries, n, head_dim, i, i, products);
    j += 8;
  }
  for (; j + (kVectorsAtOnce - 1) * kLanes < head_dim; j += kVectorsAtOnce * kLanes) {
    AddProducts<4, kVectorsAtOnce>(d, queries, n, head_dim, i, j, products);
    AddProducts<4, kVectorsAtOnce>(d, queries, n, head_dim, i + 4, j, products);
  }
  // Few vectors across leave registers for more rows.
  const size_t left = j < head_dim ? (head_dim - j + kLanes - 1) / kLanes : 0;
  if (left == 1) AddProducts<8, 1>(d, queries, n, head_dim, i, j, products);
  if constexpr (kVectorsAtOnce == 4) {
    if (left == 2) AddProducts<8, 2>(d, queries, n, head_dim, i, j, products);
    if (left == 3) AddProducts<8, 3>(d, queries, n, head_dim, i, j, products);
  }
}

// sum += each of n queries.
HWY_INLINE void AddQueries(const float* HWY_RESTRICT queries, int64_t n, size_t head_dim, float* HWY_RESTRICT sum) {
  const FloatTag d;
  const size_t stride = PaddedDim(static_cast<int32_t>(head_dim));
  constexpr size_t kStep = 2 * kLanes;
  for (size_t i = 0; i < head_dim; i += kStep) {
    const auto first = hn::FirstN(d, std::min(head_dim - i, kLanes));
    const auto second = hn::FirstN(d, head_dim - i > kLanes ? std::min(head_dim - i - kLanes, kLanes) : 0);
    FloatVec a = hn::MaskedLoad(first, d, sum + i);
    FloatVec b = hn::MaskedLoad(second, d, sum + i + kLanes);
    for (int64_t t = 0; t < n; ++t) {
      const float* x = queries + static_cast<size_t>(t) * stride + i;
      a = hn::Add(a, hn::MaskedLoad(first, d, x));
      b = hn::Add(b, hn::MaskedLoad(second, d, x + kLanes));
    }
    hn::BlendedStore(a, first, d, sum + i);
    hn::BlendedStore(b, second, d, sum + i + kLanes);
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

// to = q - pivot, zeros up to PaddedDim.
HWY_INLINE void Centre(const float* HWY_RESTRICT q, const float* HWY_RESTRICT pivot, size_t head_dim,
                       float* HWY_RESTRICT to) {
  const FloatTag d;
  size_t i = 0;
  for (; i + kLanes <= head_dim; i += kLanes)
    hn::Store(hn::Sub(hn::LoadU(d, q + i), hn::LoadU(d, pivot + i)), d, to + i);
  for (; i < head_dim; ++i) to[i] = q[i] - pivot[i];
  std::fill(to + i, to + PaddedDim(static_cast<int32_t>(head_dim)), 0.0f);
}

// The first query becomes the pivot of the head.
void SetPivot(const QueryMomentsArgs& args, int32_t head, float* normed) {
  const float* q = LoadQuery(args, args.row_begin, head, normed);
  std::copy_n(q, args.head_dim, args.moments.pivot + static_cast<size_t>(head) * static_cast<size_t>(args.head_dim));
}

// body(first row, end row) for each block of the task.
template <class Body>
HWY_INLINE void ForBlocks(const MomentTask& task, size_t head_dim, const Body& body) {
  const int32_t blocks = MomentBlocks(static_cast<int32_t>(head_dim));
  const auto block = [&](int32_t b) HWY_ATTR {
    const size_t first = static_cast<size_t>(b) * kMaxLanes;
    body(first, std::min(first + kMaxLanes, head_dim));
  };
  for (int32_t part = task.first_part; part < task.end_part; ++part) {
    block(part);
    if (blocks - 1 - part != part) block(blocks - 1 - part);
  }
}

// Sets the moments of the task to zero.
HWY_INLINE void ResetMoments(const MomentTask& task, size_t head_dim, float* sum, float* products) {
  if (task.first_part == 0) std::fill_n(sum, head_dim, 0.0f);
  ForBlocks(task, head_dim, [&](size_t begin, size_t end) HWY_ATTR {
    std::fill(products + begin * head_dim, products + end * head_dim, 0.0f);
  });
}

// scratch: [kQueriesAtOnce + 1, PaddedDim]
void AddMoments(const QueryMomentsArgs& args, const MomentTask& task, float* scratch) {
  const size_t head_dim = static_cast<size_t>(args.head_dim);
  const size_t stride = PaddedDim(args.head_dim);
  const size_t at = static_cast<size_t>(task.head) * head_dim;
  const float* pivot = args.moments.pivot + at;
  float* sum = args.moments.sum + at;
  float* products = args.moments.products + at * head_dim;
  float* normed = scratch + kQueriesAtOnce * stride;
  if (args.reset) ResetMoments(task, head_dim, sum, products);
  for (int64_t begin = args.row_begin; begin < args.row_end; begin += kQueriesAtOnce) {
    const int64_t n = std::min(kQueriesAtOnce, args.row_end - begin);
    for (int64_t t = 0; t < n; ++t) {
      const float* q = LoadQuery(args, begin + t, task.head, normed);
      float* centred = scratch + static_cast<size_t>(t) * stride;
      Centre(q, pivot, head_dim, centred);
    }
    if (task.first_part == 0) AddQueries(scratch, n, head_dim, sum);
    ForBlocks(task, head_dim, [&](size_t first, size_t end) HWY_ATTR {
      for (size_t i = first; i < end; i += 8) AddEightRows(scratch, n, head_dim, i, products);
    });
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
  std::vector<MomentTask> tasks;
  for (int32_t h = 0; h < args.n_heads; ++h) {
    if (h < args.n_heads / context.pool.threads() * context.pool.threads()) {
      tasks.push_back({h, 0, parts});
    } else {
      for (int32_t p = 0; p < parts; ++p) tasks.push_back({h, p, p + 1});
    }
  }
  context.pool.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t task, int thread) {
    LUKV_DISPATCH(context, AddMoments)
    (args, tasks[static_cast<size_t>(task)], reinterpret_cast<float*>(context.Scratch(thread, bytes)));
  });
}

}  // namespace lukv::cpu
#endif
