#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/paged_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/vector_math-inl.h"

#ifndef LUKV_KERNELS_CPU_ROPE_DESTINATION
#define LUKV_KERNELS_CPU_ROPE_DESTINATION
namespace lukv::cpu {

// Where K and V of one row and kv head go.
struct KvDestination {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kBF16;
};

// f(row, kv head) -> KvDestination
using KvDestinations = absl::FunctionRef<KvDestination(int64_t row, int32_t kv_head)>;

// Scratch of one thread: cos and sin of the row's angles and one rotated head, each padded to whole vectors.
struct RopeScratch {
  float* cosine = nullptr;  // [head_dim / 2], times rope_magnitude
  float* sine = nullptr;    // [head_dim / 2], times rope_magnitude
  float* head = nullptr;    // [head_dim]
  float* normed = nullptr;  // [head_dim]
};

}  // namespace lukv::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lukv::cpu::HWY_NAMESPACE {

using DoubleTag = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<DoubleTag>;

// sin and cos of 0 <= angle < 2^31. The angle is reduced by whole quarter turns in double (pi / 2 in two parts), so
// that positions of any size cost no accuracy; on [-pi / 4, pi / 4] Taylor's series of degree 9 and 10 are below
// 2e-9 off, far below an ulp of f32.
HWY_INLINE void SinCos(DoubleTag d, DoubleVec angle, DoubleVec& sine, DoubleVec& cosine) {
  const hn::RebindToUnsigned<DoubleTag> du;
  const DoubleVec shift = hn::Set(d, 6755399441055744.0);  // 1.5 * 2^52: the sum's low bits are the whole number.
  const DoubleVec shifted = hn::MulAdd(angle, hn::Set(d, 0.63661977236758134308), shift);
  const DoubleVec n = hn::Sub(shifted, shift);
  DoubleVec r = hn::NegMulAdd(n, hn::Set(d, 1.57079632679489655800), angle);
  r = hn::NegMulAdd(n, hn::Set(d, 6.12323399573676603587e-17), r);
  const DoubleVec r2 = hn::Mul(r, r);

  DoubleVec s = hn::Set(d, 1.0 / 362880);
  s = hn::MulAdd(s, r2, hn::Set(d, -1.0 / 5040));
  s = hn::MulAdd(s, r2, hn::Set(d, 1.0 / 120));
  s = hn::MulAdd(s, r2, hn::Set(d, -1.0 / 6));
  s = hn::MulAdd(hn::Mul(s, r2), r, r);
  DoubleVec c = hn::Set(d, -1.0 / 3628800);
  c = hn::MulAdd(c, r2, hn::Set(d, 1.0 / 40320));
  c = hn::MulAdd(c, r2, hn::Set(d, -1.0 / 720));
  c = hn::MulAdd(c, r2, hn::Set(d, 1.0 / 24));
  c = hn::MulAdd(c, r2, hn::Set(d, -0.5));
  c = hn::MulAdd(c, r2, hn::Set(d, 1.0));

  // Quarter turn q: odd swaps the two; the sine is negative in turns 2 and 3, the cosine in 1 and 2.
  const auto quarter = hn::BitCast(du, shifted);
  const auto one = hn::Set(du, uint64_t{1});
  const auto swap = hn::MaskFromVec(hn::BitCast(d, hn::Sub(hn::Zero(du), hn::And(quarter, one))));
  const auto sine_sign = hn::ShiftLeft<63>(hn::ShiftRight<1>(quarter));
  const auto cosine_sign = hn::ShiftLeft<63>(hn::ShiftRight<1>(hn::Add(quarter, one)));
  sine = hn::BitCast(d, hn::Xor(hn::BitCast(du, hn::IfThenElse(swap, c, s)), sine_sign));
  cosine = hn::BitCast(d, hn::Xor(hn::BitCast(du, hn::IfThenElse(swap, s, c)), cosine_sign));
}

// Fills scratch.cosine and scratch.sine for one position.
HWY_INLINE void FillAngles(const QkvArgs& args, Position position, const RopeScratch& scratch) {
  const DoubleTag d;
  const hn::Rebind<float, DoubleTag> df;
  constexpr size_t kStep = kLanes / 2;
  const size_t half = static_cast<size_t>(args.head_dim) / 2;
  const DoubleVec where = hn::Set(d, static_cast<double>(Value(position)));
  const DoubleVec magnitude = hn::Set(d, static_cast<double>(args.rope_magnitude));
  for (size_t i = 0; i < half; i += kStep) {
    HWY_ALIGN float frequency[kStep] = {};
    std::memcpy(frequency, args.inverse_frequency + i, std::min(kStep, half - i) * sizeof(float));
    DoubleVec sine;
    DoubleVec cosine;
    SinCos(d, hn::Mul(where, hn::PromoteTo(d, hn::Load(df, frequency))), sine, cosine);
    hn::StoreU(hn::DemoteTo(df, hn::Mul(sine, magnitude)), df, scratch.sine + i);
    hn::StoreU(hn::DemoteTo(df, hn::Mul(cosine, magnitude)), df, scratch.cosine + i);
  }
}

// The pair (a, b) turned by the angle: (a cos - b sin, b cos + a sin).
HWY_INLINE void RotateHalfSplit(const float* HWY_RESTRICT in, size_t half, const RopeScratch& scratch,
                                float* HWY_RESTRICT out) {
  const FloatTag d;
  size_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const FloatVec a = hn::LoadU(d, in + i);
    const FloatVec b = hn::LoadU(d, in + half + i);
    const FloatVec c = hn::LoadU(d, scratch.cosine + i);
    const FloatVec s = hn::LoadU(d, scratch.sine + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, out + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, out + half + i);
  }
  for (; i < half; ++i) {
    const float a = in[i];
    const float b = in[half + i];
    out[i] = std::fma(-b, scratch.sine[i], a * scratch.cosine[i]);
    out[half + i] = std::fma(a, scratch.sine[i], b * scratch.cosine[i]);
  }
}

HWY_INLINE void RotateInterleaved(const float* HWY_RESTRICT in, size_t half, const RopeScratch& scratch,
                                  float* HWY_RESTRICT out) {
  const FloatTag d;
  size_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    FloatVec a;
    FloatVec b;
    hn::LoadInterleaved2(d, in + 2 * i, a, b);
    const FloatVec c = hn::LoadU(d, scratch.cosine + i);
    const FloatVec s = hn::LoadU(d, scratch.sine + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d, out + 2 * i);
  }
  for (; i < half; ++i) {
    const float a = in[2 * i];
    const float b = in[2 * i + 1];
    out[2 * i] = std::fma(-b, scratch.sine[i], a * scratch.cosine[i]);
    out[2 * i + 1] = std::fma(a, scratch.sine[i], b * scratch.cosine[i]);
  }
}

HWY_INLINE void NormAndRotate(const QkvArgs& args, const float* in, const float* norm, const RopeScratch& scratch,
                              float* out) {
  const size_t n = static_cast<size_t>(args.head_dim);
  if (norm != nullptr) {
    NormHead(in, n, norm, args.norm_epsilon, scratch.normed);
    in = scratch.normed;
  }
  if (args.layout == RopeLayout::kHalfSplit) {
    RotateHalfSplit(in, n / 2, scratch, out);
  } else {
    RotateInterleaved(in, n / 2, scratch, out);
  }
}

HWY_INLINE void StoreRow(const float* src, size_t n, DType dtype, void* dst) {
  if (dtype == DType::kF32) {
    ConvertRow(src, n, static_cast<float*>(dst));
  } else {
    ConvertRow(src, n, static_cast<uint16_t*>(dst));
  }
}

void RotateRows(const QkvArgs& args, int64_t begin, int64_t end, const RopeScratch& scratch,
                KvDestinations destinations) {
  const size_t head_dim = static_cast<size_t>(args.head_dim);
  for (int64_t r = begin; r < end; ++r) {
    FillAngles(args, args.positions[r], scratch);
    const float* in = args.qkv.row<float>(r);
    float* q_out = args.q_out.row<float>(r);
    for (int32_t h = 0; h < args.n_heads; ++h, in += head_dim, q_out += head_dim) {
      NormAndRotate(args, in, args.q_norm, scratch, q_out);
    }
    for (int32_t h = 0; h < args.n_kv_heads; ++h, in += head_dim) {
      const KvDestination to = destinations(r, h);
      NormAndRotate(args, in, args.k_norm, scratch, scratch.head);
      StoreRow(scratch.head, head_dim, to.dtype, to.k);
      StoreRow(in + static_cast<size_t>(args.n_kv_heads) * head_dim, head_dim, to.dtype, to.v);
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace lukv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lukv::cpu {

HWY_EXPORT(RotateRows);

namespace {

void RotateAll(const QkvArgs& args, OpContext& context, KvDestinations destinations) {
  constexpr int64_t kRowsPerTask = 16;
  const int64_t rows = args.qkv.rows;
  // Whole cache lines per array: vectors may write past head_dim / 2.
  const size_t padded = (static_cast<size_t>(args.head_dim) + 15) / 16 * 16;
  context.pool.ParallelFor((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int thread) {
    float* memory = reinterpret_cast<float*>(context.Scratch(thread, 4 * padded * sizeof(float)));
    const RopeScratch scratch = {memory, memory + padded, memory + 2 * padded, memory + 3 * padded};
    const int64_t begin = task * kRowsPerTask;
    LUKV_DISPATCH(context, RotateRows)(args, begin, std::min(begin + kRowsPerTask, rows), scratch, destinations);
  });
}

}  // namespace

void RopeStage(const RopeStageArgs& args, OpContext& context) {
  const StagingView& staging = args.staging;
  const size_t row_bytes = static_cast<size_t>(staging.head_dim) * ElementBytes(staging.dtype);
  RotateAll(args.qkv, context, [&](int64_t row, int32_t head) {
    const size_t at = (static_cast<size_t>(head) * static_cast<size_t>(staging.capacity) +
                       static_cast<size_t>(args.staging_row + row)) *
                      row_bytes;
    return KvDestination{static_cast<std::byte*>(staging.k) + at, static_cast<std::byte*>(staging.v) + at,
                         staging.dtype};
  });
}

void Append(const AppendArgs& args, OpContext& context) {
  const SequenceRows& sequences = args.sequences;
  const PageTableView& table = args.table;
  const int32_t page_tokens = args.pages.page_tokens;
  const size_t row_bytes = static_cast<size_t>(args.pages.head_dim) * ElementBytes(args.pages.dtype);
  RotateAll(args.qkv, context, [&](int64_t row, int32_t head) {
    const int32_t* next = std::upper_bound(sequences.row_start, sequences.row_start + sequences.n_sequences + 1,
                                           static_cast<int32_t>(row));
    const int32_t slot = sequences.slots[next - sequences.row_start - 1];
    const size_t index = HeadIndex(table, slot, args.layer, head);
    // Row j of n is entry L - n + j, counted from the end: L - (rows of the sequence from here on).
    const int32_t entry = table.kept[index] + table.generated[slot] - (*next - static_cast<int32_t>(row));
    const PageId page = table.arena[table.offset[index] + static_cast<uint32_t>(entry / page_tokens)];
    std::byte* k = PageBytes(args.pages, page) + static_cast<size_t>(entry % page_tokens) * row_bytes;
    return KvDestination{k, k + static_cast<size_t>(page_tokens) * row_bytes, args.pages.dtype};
  });
}

}  // namespace lukv::cpu
#endif
