#include "kernels/cuda/angles.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/page_rows.h"
#include "kernels/cuda/vectors.h"

namespace lukv::cuda {

// Where K and V of the rows go: to staging, or to the pages of the rows' sequences.
struct RopeDestination {
  void* k = nullptr;
  void* v = nullptr;
  bool paged = false;
  StagingView staging;
  int32_t staging_row = 0;
  SequenceRows sequences;
  PageTableView table;
  int32_t layer = 0;
  PageStoreView pages;
};

namespace {

constexpr int kMaxThreads = 512;

LUKV_DEVICE int64_t RopeOffset(const RopeDestination& to, int32_t row, int32_t head) {
  if (!to.paged) {
    return StagingRow(to.staging, head, to.staging_row + row) * to.staging.head_dim;
  }
  // The sequence whose rows begin last at or before this one: of several that begin here all but the last have none.
  const int32_t* const row_start = to.sequences.row_start;
  int32_t low = 0;
  int32_t high = to.sequences.n_sequences;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (row_start[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const int32_t slot = to.sequences.slots[low];
  const int64_t index = PageHeadIndex(to.table, slot, to.layer, head);
  // Row j of n is entry L - n + j, counted from the end: L - (rows of the sequence from here on).
  const int32_t entry = to.table.kept[index] + to.table.generated[slot] - (row_start[low + 1] - row);
  return PageRow(to.pages, to.table, index, entry) * to.pages.head_dim;
}

// 1 / rms of a head, the same in all lanes.
template <typename T>
LUKV_DEVICE float RopeNormFactor(const T* head, int32_t head_dim, float epsilon, bool vectors) {
  constexpr int kPart = kVector<T>;
  float sum = 0;
  for (int32_t at = Lane() * kPart; at < head_dim; at += kWarp * kPart) {
    float x[kPart];
    LoadElements(head + at, head_dim - at, vectors, x);
#pragma unroll
    for (int i = 0; i < kPart; ++i) sum = fmaf(x[i], x[i], sum);
  }
  return 1.0f / sqrtf(WarpSum(sum) / static_cast<float>(head_dim) + epsilon);
}

// (a, b) turned by the angle: (a cos - b sin, b cos + a sin).
LUKV_DEVICE void RopeTurn(float cosine, float sine, float& a, float& b) {
  const float turned = fmaf(-b, sine, a * cosine);
  b = fmaf(a, sine, b * cosine);
  a = turned;
}

}  // namespace

// What the threads of a row's block make before they turn its heads.
struct RopeRow {
  int64_t* offsets;  // [n_kv_heads], of the K row and, from another base, of the V row
  float* cosines;    // [head_dim / 2], times rope_magnitude
  float* sines;      // [head_dim / 2], times rope_magnitude
  float* factors;    // [n_heads + n_kv_heads], of those with a norm: 1 / rms
};

namespace {

template <typename T>
LUKV_DEVICE void RopePrepare(const QkvArgs& args, const RopeDestination& to, const T* in, bool vectors,
                             const RopeRow& scratch) {
  const int32_t row = static_cast<int32_t>(blockIdx.x);
  const int32_t threads = static_cast<int32_t>(blockDim.x);
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  for (int32_t h = thread; h < args.n_kv_heads; h += threads) scratch.offsets[h] = RopeOffset(to, row, h);
  const double position = static_cast<double>(Value(args.positions[row]));
  const double magnitude = static_cast<double>(args.rope_magnitude);
  for (int32_t i = thread; i < args.head_dim / 2; i += threads) {
    double sine;
    double cosine;
    SinCosOf(position * static_cast<double>(args.inverse_frequency[i]), &sine, &cosine);
    scratch.cosines[i] = static_cast<float>(cosine * magnitude);
    scratch.sines[i] = static_cast<float>(sine * magnitude);
  }
  for (int32_t h = Warp(); h < args.n_heads + args.n_kv_heads; h += threads / kWarp) {
    if ((h < args.n_heads ? args.q_norm : args.k_norm) == nullptr) continue;
    const float factor = RopeNormFactor(in + h * args.head_dim, args.head_dim, args.norm_epsilon, vectors);
    if (Lane() == 0) scratch.factors[h] = factor;
  }
}

// Elements of a head that a thread has at a time, kCount / 2 pairs: a and b begin at at_a and at_b, n_a and n_b of them
// exist.
template <int kCount>
struct RopePart {
  int32_t first_pair;
  int32_t n_pairs;
  int32_t at_a;
  int32_t at_b;
  int32_t n_a;
  int32_t n_b;
  float a[kCount];
  float b[kCount];
};

template <int kCount>
LUKV_DEVICE void RopePlace(int32_t first_pair, int32_t half, bool half_split, RopePart<kCount>& part) {
  part.first_pair = first_pair;
  part.n_pairs = min(kCount, half - first_pair);
  part.at_a = half_split ? first_pair : 2 * first_pair;
  part.at_b = half_split ? half + first_pair : part.at_a + kCount;
  part.n_a = half_split ? part.n_pairs : min(kCount, 2 * part.n_pairs);
  part.n_b = half_split ? part.n_pairs : 2 * part.n_pairs - part.n_a;
}

template <int kCount>
LUKV_DEVICE void RopeNormAndTurn(const RopeRow& row, const float* norm, int32_t head, bool half_split,
                                 RopePart<kCount>& part) {
  if (norm != nullptr) {
    const float factor = row.factors[head];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < part.n_a) part.a[i] = part.a[i] * factor * norm[part.at_a + i];
      if (i < part.n_b) part.b[i] = part.b[i] * factor * norm[part.at_b + i];
    }
  }
  const float* const cosines = row.cosines + part.first_pair;
  const float* const sines = row.sines + part.first_pair;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i >= part.n_pairs) break;
    if (half_split) {
      RopeTurn(cosines[i], sines[i], part.a[i], part.b[i]);
    } else if (i < kCount / 2) {
      RopeTurn(cosines[i], sines[i], part.a[2 * i], part.a[2 * i + 1]);
    } else {
      RopeTurn(cosines[i], sines[i], part.b[2 * i - kCount], part.b[2 * i - kCount + 1]);
    }
  }
}

template <int kCount, typename T>
LUKV_DEVICE void RopeStore(const RopePart<kCount>& part, bool vectors, T* out) {
  StoreElements(part.a, part.n_a, vectors, out + part.at_a);
  StoreElements(part.b, part.n_b, vectors, out + part.at_b);
}

}  // namespace

// One block per row, so that the angles are made once. `vectors`: all parts of heads are whole and aligned.
template <typename T, typename Kv>
__global__ void __launch_bounds__(kMaxThreads) RopeKernel(QkvArgs args, RopeDestination to, bool vectors) {
  constexpr int kPairs = kVector<T>;
  const int64_t row = blockIdx.x;
  const int32_t head_dim = args.head_dim;
  const int32_t half = head_dim / 2;
  const T* const in = args.qkv.row<T>(row);
  LUKV_DYNAMIC_SHARED(int64_t, offsets);
  float* const floats = reinterpret_cast<float*>(offsets + args.n_kv_heads);
  const RopeRow scratch = {offsets, floats, floats + half, floats + head_dim};
  RopePrepare(args, to, in, vectors, scratch);
  __syncthreads();

  const bool half_split = args.layout == RopeLayout::kHalfSplit;
  const int32_t parts = (half + kPairs - 1) / kPairs;
  const int32_t n_turned = args.n_heads + args.n_kv_heads;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < (n_turned + args.n_kv_heads) * parts;
       i += static_cast<int32_t>(blockDim.x)) {
    const int32_t h = i / parts;
    RopePart<kPairs> part;
    RopePlace((i - h * parts) * kPairs, half, half_split, part);
    LoadElements(in + h * head_dim + part.at_a, part.n_a, vectors, part.a);
    LoadElements(in + h * head_dim + part.at_b, part.n_b, vectors, part.b);
    if (h < n_turned) RopeNormAndTurn(scratch, h < args.n_heads ? args.q_norm : args.k_norm, h, half_split, part);
    if (h < args.n_heads) {
      RopeStore(part, vectors, args.q_out.row<T>(row) + h * head_dim);
    } else if (h < n_turned) {
      RopeStore(part, vectors, static_cast<Kv*>(to.k) + offsets[h - args.n_heads]);
    } else {
      RopeStore(part, vectors, static_cast<Kv*>(to.v) + offsets[h - n_turned]);
    }
  }
}

namespace {

cudaError_t RotateRows(const QkvArgs& args, const RopeDestination& to, DType kv_dtype, const OpContext& context) {
  const int64_t head_dim = args.head_dim;
  const int64_t element = ElementBytes(args.qkv.dtype);
  const int64_t pairs = 16 / element;  // Of a thread.
  const bool vectors = head_dim % (2 * pairs) == 0 && IsVectorAligned(args.qkv.data, args.qkv.stride * element) &&
                       IsVectorAligned(args.q_out.data, args.q_out.stride * element) &&
                       IsVectorAligned(to.k, head_dim * ElementBytes(kv_dtype)) && IsVectorAligned(to.v, 0);
  const int64_t parts = (head_dim / 2 + pairs - 1) / pairs * (args.n_heads + 2 * args.n_kv_heads);
  const unsigned threads = Blocks(parts < kMaxThreads ? parts : kMaxThreads, kWarp) * kWarp;
  const size_t shared = static_cast<size_t>(args.n_kv_heads) * sizeof(int64_t) +
                        static_cast<size_t>(head_dim + args.n_heads + args.n_kv_heads) * sizeof(float);
  return DispatchFloat(args.qkv.dtype, [&]<typename T>() {
    return DispatchFloat(kv_dtype, [&]<typename Kv>() {
      return Launch(context.stream, &RopeKernel<T, Kv>, Blocks(args.qkv.rows, 1), threads, shared, args, to, vectors);
    });
  });
}

}  // namespace

cudaError_t RopeStage(const RopeStageArgs& args, const OpContext& context) {
  RopeDestination to;
  to.k = args.staging.k;
  to.v = args.staging.v;
  to.staging = args.staging;
  to.staging_row = args.staging_row;
  return RotateRows(args.qkv, to, args.staging.dtype, context);
}

cudaError_t Append(const AppendArgs& args, const OpContext& context) {
  const PageStoreView& pages = args.pages;
  RopeDestination to;
  to.k = pages.base;
  to.v = static_cast<char*>(pages.base) +
         static_cast<int64_t>(pages.page_tokens) * pages.head_dim * ElementBytes(pages.dtype);
  to.paged = true;
  to.sequences = args.sequences;
  to.table = args.table;
  to.layer = args.layer;
  to.pages = pages;
  return RotateRows(args.qkv, to, pages.dtype, context);
}

}  // namespace lukv::cuda
