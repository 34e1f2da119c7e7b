#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/argument_checks.h"
#include "kernels/cpu/packed_linear.h"

namespace lukv::cpu {
namespace {

constexpr size_t RoundUp64(size_t bytes) { return (bytes + 63) / 64 * 64; }

// One block of 32 inputs of one output, as the kernels want it.
struct Codes {
  alignas(4) std::array<uint8_t, kBlock> code;
  uint16_t scale = 0;               // f16; types that are no K-quants
  uint16_t min = 0;                 // f16
  std::array<uint8_t, 2> factor{};  // K-quants: the scale's factor (Q6_K: one for each half, signed)
  uint8_t min_factor = 0;
};

uint16_t LoadU16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

const uint8_t* Bytes(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }

// The layouts below are ggml's block structs (block_q4_0 ... block_q6_K in ggml-common.h). `src` is the start of an
// output's row, `block` counts blocks of 32.

// {f16 d[, f16 m], u8 qs[16]}: inputs 0..15 are the low nibbles, 16..31 the high ones.
void ReadNibbles(const uint8_t* qs, Codes& out) {
  for (size_t i = 0; i < 16; ++i) {
    out.code[i] = qs[i] & 0x0f;
    out.code[i + 16] = qs[i] >> 4;
  }
}

// Q4_K and Q5_K: eight 6-bit scales and mins in 12 bytes.
void ReadSixBitScales(const uint8_t* scales, int64_t sub, Codes& out) {
  if (sub < 4) {
    out.factor[0] = scales[sub] & 63;
    out.min_factor = scales[sub + 4] & 63;
  } else {
    out.factor[0] = static_cast<uint8_t>((scales[sub + 4] & 0x0f) | ((scales[sub - 4] >> 6) << 4));
    out.min_factor = static_cast<uint8_t>((scales[sub + 4] >> 4) | ((scales[sub] >> 6) << 4));
  }
}

// 32 bytes hold two blocks: the even one in the low nibbles, the odd one in the high ones.
void ReadPairedNibbles(const uint8_t* qs, int64_t sub, Codes& out) {
  const int shift = sub % 2 == 0 ? 0 : 4;
  for (size_t i = 0; i < 32; ++i) out.code[i] = (qs[i] >> shift) & 0x0f;
}

template <DType kType>
void ReadBlock(const std::byte* src, int64_t block, Codes& out) {
  const size_t block_bytes = static_cast<size_t>(Traits(kType).block_bytes);
  if constexpr (CodeFormatOf(kType).super_scaled) {
    const std::byte* super = src + static_cast<size_t>(block / 8) * block_bytes;
    const int64_t sub = block % 8;
    if constexpr (kType == DType::kQ4_K) {  // {f16 d, f16 dmin, u8 scales[12], u8 qs[128]}
      ReadSixBitScales(Bytes(super + 4), sub, out);
      ReadPairedNibbles(Bytes(super + 16 + sub / 2 * 32), sub, out);
    } else if constexpr (kType == DType::kQ5_K) {  // {f16 d, f16 dmin, u8 scales[12], u8 qh[32], u8 qs[128]}
      ReadSixBitScales(Bytes(super + 4), sub, out);
      ReadPairedNibbles(Bytes(super + 48 + sub / 2 * 32), sub, out);
      const uint8_t* high = Bytes(super + 16);
      for (size_t i = 0; i < 32; ++i) out.code[i] |= static_cast<uint8_t>(((high[i] >> sub) & 1) << 4);
    } else {  // Q6_K: {u8 ql[128], u8 qh[64], i8 scales[16], f16 d}
      static_assert(kType == DType::kQ6_K);
      // Each half of 128 inputs has 64 bytes of low nibbles (blocks 0, 1 low; 2, 3 high) and 32 of high bit pairs.
      const int64_t quarter = sub % 4;
      const uint8_t* low = Bytes(super + sub / 4 * 64 + quarter % 2 * 32);
      const uint8_t* high = Bytes(super + 128 + sub / 4 * 32);
      const int low_shift = quarter < 2 ? 0 : 4;
      for (size_t i = 0; i < 32; ++i) {
        const int bits = ((low[i] >> low_shift) & 0x0f) | (((high[i] >> (2 * quarter)) & 3) << 4);
        out.code[i] = static_cast<uint8_t>(bits);
      }
      std::memcpy(out.factor.data(), super + 192 + sub * 2, 2);
    }
  } else {
    const std::byte* start = src + static_cast<size_t>(block) * block_bytes;
    out.scale = LoadU16(start);
    if constexpr (kType == DType::kQ4_0) {
      ReadNibbles(Bytes(start + 2), out);
    } else if constexpr (kType == DType::kQ4_1) {
      out.min = LoadU16(start + 2);
      ReadNibbles(Bytes(start + 4), out);
    } else {  // {f16 d, i8 qs[32]}
      static_assert(kType == DType::kQ8_0);
      for (size_t i = 0; i < 32; ++i) out.code[i] = Bytes(start + 2)[i] ^ 0x80;  // + 128
    }
  }
}

// The f16 factors of a K-quant's super block. The min's is negated: w = scale * code + min in all types.
template <DType kType>
std::pair<uint16_t, uint16_t> ReadSupers(const std::byte* src, int64_t super) {
  const std::byte* start = src + static_cast<size_t>(super) * static_cast<size_t>(Traits(kType).block_bytes);
  if constexpr (kType == DType::kQ6_K) return {LoadU16(start + 208), 0};
  return {LoadU16(start), static_cast<uint16_t>(LoadU16(start + 2) ^ 0x8000)};
}

// Writes one block of output `lane`. Whole words of four inputs are moved.
template <DType kType>
void WriteBlock(const PanelLayout& layout, const Codes& codes, int64_t block, size_t lane, std::byte* panel) {
  constexpr CodeFormat kFormat = CodeFormatOf(kType);
  constexpr size_t kWords = kBlock / 4;
  std::array<uint32_t, kWords> words;
  std::memcpy(words.data(), codes.code.data(), sizeof(words));
  const size_t b = static_cast<size_t>(block);
  if constexpr (kFormat.bits == 4) {
    uint32_t* dst = reinterpret_cast<uint32_t*>(panel) + b * (kWords / 2) * kPanelRows + lane;
    for (size_t j = 0; j < kWords / 2; ++j) dst[j * kPanelRows] = words[2 * j] | (words[2 * j + 1] << 4);
  } else {
    uint32_t* dst = reinterpret_cast<uint32_t*>(panel) + b * kWords * kPanelRows + lane;
    for (size_t j = 0; j < kWords; ++j) dst[j * kPanelRows] = words[j];
  }
  const size_t at = b * kPanelRows + lane;
  if constexpr (!kFormat.super_scaled) {
    std::memcpy(panel + layout.scales + at * 2, &codes.scale, 2);
    if constexpr (kFormat.has_min) std::memcpy(panel + layout.mins + at * 2, &codes.min, 2);
  } else if constexpr (kFormat.scale_inputs == 16) {
    panel[layout.scales + b * 2 * kPanelRows + lane] = static_cast<std::byte>(codes.factor[0]);
    panel[layout.scales + (b * 2 + 1) * kPanelRows + lane] = static_cast<std::byte>(codes.factor[1]);
  } else {
    panel[layout.scales + at] = static_cast<std::byte>(codes.factor[0]);
    panel[layout.mins + at] = static_cast<std::byte>(codes.min_factor);
  }
}

// rows <= 16 outputs that begin at src.
template <DType kType>
void PackCodes(const PanelLayout& layout, const std::byte* src, int64_t rows, std::byte* panel) {
  constexpr CodeFormat kFormat = CodeFormatOf(kType);
  const size_t row_bytes = RowBytes(kType, layout.inputs);
  for (int64_t block = 0; block < layout.inputs / kBlock; ++block) {
    for (size_t lane = 0; lane < static_cast<size_t>(rows); ++lane) {
      Codes codes;
      ReadBlock<kType>(src + lane * row_bytes, block, codes);
      WriteBlock<kType>(layout, codes, block, lane, panel);
    }
  }
  if constexpr (kFormat.super_scaled) {
    for (int64_t super = 0; super < layout.inputs / kSuperBlock; ++super) {
      for (size_t lane = 0; lane < static_cast<size_t>(rows); ++lane) {
        const auto [scale, min] = ReadSupers<kType>(src + lane * row_bytes, super);
        const size_t at = (static_cast<size_t>(super) * kPanelRows + lane) * 2;
        std::memcpy(panel + layout.supers + at, &scale, 2);
        if constexpr (kFormat.has_min) std::memcpy(panel + layout.super_mins + at, &min, 2);
      }
    }
  }
}

template <typename T>
void PackFloats(const PanelLayout& layout, const std::byte* src, int64_t rows, std::byte* panel) {
  T* dst = reinterpret_cast<T*>(panel);
  for (int64_t lane = 0; lane < rows; ++lane) {
    const std::byte* row = src + static_cast<size_t>(lane * layout.inputs) * sizeof(T);
    for (int64_t k = 0; k < layout.inputs; ++k) {
      std::memcpy(&dst[k * kPanelRows + lane], row + static_cast<size_t>(k) * sizeof(T), sizeof(T));
    }
  }
}

void PackPanel(const PanelLayout& layout, const std::byte* src, int64_t rows, std::byte* panel) {
  if (rows < kPanelRows) std::memset(panel, 0, layout.bytes);
  switch (layout.dtype) {
    case DType::kF32:
      return PackFloats<uint32_t>(layout, src, rows, panel);
    case DType::kF16:
    case DType::kBF16:
      return PackFloats<uint16_t>(layout, src, rows, panel);
    case DType::kQ4_0:
      return PackCodes<DType::kQ4_0>(layout, src, rows, panel);
    case DType::kQ4_1:
      return PackCodes<DType::kQ4_1>(layout, src, rows, panel);
    case DType::kQ8_0:
      return PackCodes<DType::kQ8_0>(layout, src, rows, panel);
    case DType::kQ4_K:
      return PackCodes<DType::kQ4_K>(layout, src, rows, panel);
    case DType::kQ5_K:
      return PackCodes<DType::kQ5_K>(layout, src, rows, panel);
    case DType::kQ6_K:
      return PackCodes<DType::kQ6_K>(layout, src, rows, panel);
  }
}

}  // namespace

PanelLayout::PanelLayout(DType type, int64_t n_inputs) : dtype(type), inputs(n_inputs) {
  if (IsFloat(dtype)) {
    bytes = RoundUp64(RowBytes(dtype, inputs) * kPanelRows);
    return;
  }
  const CodeFormat format = CodeFormatOf(dtype);
  const size_t outputs_x_inputs = static_cast<size_t>(inputs) * kPanelRows;
  scales = outputs_x_inputs * static_cast<size_t>(format.bits) / 8;
  const size_t scale_bytes =
      outputs_x_inputs / static_cast<size_t>(format.scale_inputs) * (format.super_scaled ? 1 : 2);
  const size_t super_bytes = format.super_scaled ? outputs_x_inputs / kSuperBlock * 2 : 0;
  supers = scales + scale_bytes;
  mins = supers + super_bytes;
  super_mins = mins + (format.has_min ? scale_bytes : 0);
  bytes = RoundUp64(super_mins + (format.has_min ? super_bytes : 0));
}

absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts, OpContext& context) {
  LUKV_RETURN_IF_ERROR(CheckLinearParts(parts));
  auto weight = std::make_unique<PackedLinear>();
  weight->in_features_ = parts[0].cols;
  int64_t n_panels = 0;
  for (const TensorView& part : parts) {
    PackedPart packed{.layout = PanelLayout(part.dtype, part.cols),
                      .first_output = weight->out_features_,
                      .outputs = part.rows,
                      .first_panel = n_panels};
    n_panels += packed.n_panels();
    weight->out_features_ += part.rows;
    weight->bytes_ += static_cast<size_t>(packed.n_panels()) * packed.layout.bytes;
    weight->parts_.push_back(packed);
  }
  LUKV_ASSIGN_OR_RETURN(weight->buffer_, context.weights.Allocate(weight->bytes_));
  std::byte* next = weight->buffer_.get();
  for (size_t i = 0; i < parts.size(); ++i) {
    PackedPart& packed = weight->parts_[i];
    packed.panels = std::exchange(next, next + static_cast<size_t>(packed.n_panels()) * packed.layout.bytes);
    const size_t row_bytes = RowBytes(parts[i].dtype, parts[i].cols);
    context.pool.ParallelFor(packed.n_panels(), [&](int64_t panel, int) {
      const int64_t row = panel * kPanelRows;
      PackPanel(packed.layout, parts[i].data + static_cast<size_t>(row) * row_bytes,
                std::min(kPanelRows, packed.outputs - row), packed.panel(panel));
    });
  }
  return weight;
}

}  // namespace lukv::cpu
