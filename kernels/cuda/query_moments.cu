#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/vectors.h"

namespace lukv::cuda {

namespace {

// A block makes a square of the products of one head, a thread 4 x 4 of them.
constexpr int kSide = 32;
constexpr int kThreadSide = 4;
constexpr int kThreads = (kSide / kThreadSide) * (kSide / kThreadSide);
// Queries in shared memory: 16 registers of each thread ask for them.
template <typename T>
constexpr int kMomentRows = 4 * kVector<T>;
constexpr int kQueryStride = 2 * kSide + 4;  // Of the rows there: they begin in other banks, at multiples of 16 bytes.
constexpr int kNormThreads = 256;

}  // namespace

// factors[r][h] = 1 / rms of head h of row row_begin + r. A warp per head of a row.
template <typename T>
__global__ void __launch_bounds__(kNormThreads) QueryNormKernel(QueryMomentsArgs args, float* factors, bool vectors) {
  constexpr int kCount = kVector<T>;
  constexpr int kWarps = kNormThreads / kWarp;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + Warp();
  if (i >= (args.row_end - args.row_begin) * args.n_heads) return;
  const int64_t row = i / args.n_heads;
  const T* const q = args.qkv.row<T>(args.row_begin + row) + (i - row * args.n_heads) * args.head_dim;
  float sum = 0;
  for (int32_t at = Lane() * kCount; at < args.head_dim; at += kWarp * kCount) {
    float x[kCount];
    LoadElements(q + at, args.head_dim - at, vectors, x);
#pragma unroll
    for (int j = 0; j < kCount; ++j) sum = fmaf(x[j], x[j], sum);
  }
  sum = WarpSum(sum);
  if (Lane() == 0) factors[i] = 1.0f / sqrtf(sum / static_cast<float>(args.head_dim) + args.norm_epsilon);
}

namespace {

// What a block does: rows [first_i, first_i + kSide) of the head's products, columns from first_j on.
struct MomentsSquare {
  int32_t first_i;
  int32_t first_j;
};

// Square t of the upper triangle, row by row, `side` squares in the first.
LUKV_DEVICE MomentsSquare MomentsSquareOf(int32_t t, int32_t side) {
  int32_t i = 0;
  for (int32_t width = side; t >= width; --width) {
    t -= width;
    ++i;
  }
  return {i * kSide, (i + t) * kSide};
}

// A thread's share in bringing the block's queries to shared memory, a row of which has the elements of the square's
// rows and then those of its columns: the same kCount columns in every kRowStep-th row.
template <typename T>
struct MomentsLoader {
  static constexpr int kCount = kVector<T>;
  static constexpr int kParts = 2 * kSide / kCount;
  static constexpr int kRowStep = kThreads / kParts;
  static constexpr int kRows = kMomentRows<T> / kRowStep;

  const T* from;  // This thread's columns of row row_begin.
  int64_t stride;
  const float* factors;  // Of row row_begin, n_heads apart; null without a norm.
  int32_t n_heads;
  int32_t columns;  // That exist.
  bool whole;       // All of them, aligned.
  float weights[kCount];
  float pivot[kCount];
  uint4 raw[kRows];
  float factor[kRows];

  LUKV_DEVICE void Fetch(int64_t row, int at) {
    raw[at] = LoadRaw(from + row * stride, columns, whole);
    if (factors != nullptr) factor[at] = factors[row * n_heads];
  }
  // The queries, normed if need be.
  LUKV_DEVICE void Unpack(int at, float (&x)[kCount]) const {
    UnpackVector<T>(raw[at], x);
    if (factors == nullptr) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = x[i] * factor[at] * weights[i];
  }
  // Asks for n rows from `begin` on.
  LUKV_DEVICE void FetchRows(int64_t begin, int32_t first, int32_t n) {
#pragma unroll
    for (int at = 0; at < kRows; ++at) {
      if (at * kRowStep + first < n) Fetch(begin + at * kRowStep + first, at);
    }
  }
  // Centres what was asked for.
  LUKV_DEVICE void StoreRows(int32_t first, int32_t n, float* queries) const {
#pragma unroll
    for (int at = 0; at < kRows; ++at) {
      const int32_t r = at * kRowStep + first;
      if (r >= n) break;
      float x[kCount];
      Unpack(at, x);
#pragma unroll
      for (int i = 0; i < kCount; ++i) x[i] -= pivot[i];
      StoreVector(x, queries + r * kQueryStride);
    }
  }
};

using MomentSums = float[kThreadSide][kThreadSide];

// body(r, c) for those of a thread's sums that are of the upper triangle.
template <typename Body>
LUKV_DEVICE void ForMomentSums(int32_t i, int32_t j, int32_t head_dim, const Body& body) {
#pragma unroll
  for (int r = 0; r < kThreadSide; ++r) {
#pragma unroll
    for (int c = 0; c < kThreadSide; ++c) {
      if (i + r < head_dim && j + c < head_dim && j + c >= i + r) body(r, c);
    }
  }
}

LUKV_DEVICE void AddMomentProducts(const float* rows, const float* columns, int32_t n, MomentSums& sums) {
#pragma unroll 4
  for (int32_t t = 0; t < n; ++t) {
    float a[kThreadSide];
    float b[kThreadSide];
    LoadVector(rows + t * kQueryStride, a);
    LoadVector(columns + t * kQueryStride, b);
#pragma unroll
    for (int r = 0; r < kThreadSide; ++r) {
#pragma unroll
      for (int c = 0; c < kThreadSide; ++c) sums[r][c] = fmaf(a[r], b[c], sums[r][c]);
    }
  }
}

}  // namespace

// Products are summed in f32 by one fmaf per query, in the order of the queries: tensor cores would add up several at
// once, in groups that depend on where a chunk begins, of factors rounded to bf16. A thread keeps its sums in
// registers; the queries pass by in shared memory, centred.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    QueryMomentsKernel(QueryMomentsArgs args, const float* factors, int32_t squares_per_head, bool vectors) {
  using Loader = MomentsLoader<T>;
  constexpr int kRowsAtOnce = kMomentRows<T>;
  LUKV_SHARED(float, queries, kRowsAtOnce* kQueryStride);
  const int32_t head_dim = args.head_dim;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t head = static_cast<int32_t>(blockIdx.x) / squares_per_head;
  const MomentsSquare square =
      MomentsSquareOf(static_cast<int32_t>(blockIdx.x) % squares_per_head, (head_dim + kSide - 1) / kSide);
  const int64_t head_at = static_cast<int64_t>(head) * head_dim;
  const bool diagonal = square.first_i == square.first_j;

  const int32_t part = thread % Loader::kParts * Loader::kCount;
  const int32_t first_row = thread / Loader::kParts;
  const int32_t column = part < kSide ? square.first_i + part : square.first_j + part - kSide;
  Loader loader;
  loader.from = args.qkv.row<T>(args.row_begin) + head_at + column;
  loader.stride = args.qkv.stride;
  loader.factors = args.q_norm == nullptr ? nullptr : factors + head;
  loader.n_heads = args.n_heads;
  loader.columns = min(Loader::kCount, max(0, head_dim - column));
  loader.whole = vectors && loader.columns == Loader::kCount;
#pragma unroll
  for (int i = 0; i < Loader::kCount; ++i) {
    loader.weights[i] = args.q_norm != nullptr && i < loader.columns ? args.q_norm[column + i] : 0.0f;
    loader.pivot[i] = !args.reset && i < loader.columns ? args.moments.pivot[head_at + column + i] : 0.0f;
  }
  if (args.reset) {
    loader.Fetch(0, 0);
    loader.Unpack(0, loader.pivot);
    if (diagonal && first_row == 0 && part < kSide) {
      StoreElements(loader.pivot, loader.columns, false, args.moments.pivot + head_at + column);
    }
  }

  const int32_t i = square.first_i + thread / (kSide / kThreadSide) * kThreadSide;
  const int32_t j = square.first_j + thread % (kSide / kThreadSide) * kThreadSide;
  float* const products = args.moments.products + (head_at + i) * head_dim + j;
  MomentSums sums = {};
  if (!args.reset) {
    ForMomentSums(i, j, head_dim, [&](int r, int c) { sums[r][c] = products[r * head_dim + c]; });
  }
  // The blocks on the diagonal also sum up the queries of their columns.
  const bool sums_queries = diagonal && thread < kSide && square.first_i + thread < head_dim;
  float* const query_sum = args.moments.sum + head_at + square.first_i + thread;
  float query_total = sums_queries && !args.reset ? *query_sum : 0.0f;

  const int64_t n_rows = args.row_end - args.row_begin;
  const auto rows_from = [&](int64_t row) {
    return static_cast<int32_t>(min(static_cast<int64_t>(kRowsAtOnce), n_rows - row));
  };
  loader.FetchRows(0, first_row, rows_from(0));
  for (int64_t row = 0; row < n_rows; row += kRowsAtOnce) {
    const int32_t n = rows_from(row);
    __syncthreads();  // The queries before are used up.
    loader.StoreRows(first_row, n, queries + part);
    __syncthreads();
    loader.FetchRows(row + kRowsAtOnce, first_row, rows_from(row + kRowsAtOnce));
    AddMomentProducts(queries + (i - square.first_i), queries + kSide + (j - square.first_j), n, sums);
    if (sums_queries) {
      for (int32_t t = 0; t < n; ++t) query_total += queries[t * kQueryStride + thread];
    }
  }
  ForMomentSums(i, j, head_dim, [&](int r, int c) { products[r * head_dim + c] = sums[r][c]; });
  if (sums_queries) *query_sum = query_total;
}

cudaError_t QueryMoments(const QueryMomentsArgs& args, const OpContext& context) {
  const int64_t element = ElementBytes(args.qkv.dtype);
  const int64_t rows = args.row_end - args.row_begin;
  const bool vectors = IsVectorAligned(args.qkv.data, args.qkv.stride * element) && args.head_dim * element % 16 == 0;
  const int32_t side = (args.head_dim + kSide - 1) / kSide;
  const int32_t tiles = side * (side + 1) / 2;
  return DispatchFloat(args.qkv.dtype, [&]<typename T>() -> cudaError_t {
    void* factors = nullptr;
    if (args.q_norm != nullptr) {
      const int64_t n_factors = rows * args.n_heads;
      LUKV_CUDA_RETURN_IF_ERROR(context.workspace->Get(static_cast<size_t>(n_factors) * sizeof(float), &factors));
      LUKV_CUDA_RETURN_IF_ERROR(Launch(context.stream, &QueryNormKernel<T>, Blocks(n_factors, kNormThreads / kWarp),
                                       kNormThreads, 0, args, static_cast<float*>(factors), vectors));
    }
    return Launch(context.stream, &QueryMomentsKernel<T>, Blocks(static_cast<int64_t>(tiles) * args.n_heads, 1),
                  kThreads, 0, args, static_cast<const float*>(factors), tiles, vectors);
  });
}

}  // namespace lukv::cuda
