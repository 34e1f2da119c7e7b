// How the CPU backend keeps the weights of a linear layer.
//
// Output features are grouped into panels of 16 (one AVX-512 register of f32 or i32), so that a kernel computes 16
// outputs of a row at once and reads the weights as one stream. The codes of a quantised type stay as the file has
// them, unsigned: w = scale * (code - offset) + min, with one scale and min for 32 inputs (16 for Q6_K).
//
// A panel of a quantised type, K inputs, B = K / 32 blocks:
//   codes   4-bit types: u8 [B][4][16][4]: byte [b][j][n][i] holds input b * 32 + j * 8 + i of output n in its low and
//           input b * 32 + j * 8 + 4 + i in its high nibble. 8-bit types: u8 [B][8][16][4]: input b * 32 + j * 4 + i.
//           Four inputs of one output lie side by side, as the VNNI dot product takes them.
//   scales  f16 [B][16]; K-quants: u8 [B][16] (Q6_K: i8 [B][2][16]), to be multiplied by
//   supers  f16 [K / 256][16] (K-quants only)
//   mins    as scales; K-quants: times super_mins, stored negated
//   super_mins  as supers
// A panel of a float type is [K][16] of that type.
// Every scale is exact: f16 as in the file, or the f32 product of an f16 and a byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/ops.h"

namespace lukv::cpu {

inline constexpr int64_t kPanelRows = 16;    // Output features of a panel.
inline constexpr int64_t kBlock = 32;        // Inputs that share an activation scale.
inline constexpr int64_t kSuperBlock = 256;  // Inputs that share an f16 factor in K-quants.

// What differs between the quantised types once they are packed.
struct CodeFormat {
  int bits;          // 4 or 8 in memory.
  int max_code;      // Largest code, which bounds the 16-bit sums of the kernels without VNNI.
  int offset_log2;   // offset = 1 << offset_log2, or 0 if this is -1.
  int scale_inputs;  // Inputs that share a scale: 32 or 16.
  bool has_min;
  bool super_scaled;  // A K-quant.
};

constexpr CodeFormat CodeFormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {.bits = 4, .max_code = 15, .offset_log2 = 3, .scale_inputs = 32, .has_min = false, .super_scaled = false};
    case DType::kQ4_1:
      return {.bits = 4, .max_code = 15, .offset_log2 = -1, .scale_inputs = 32, .has_min = true, .super_scaled = false};
    case DType::kQ8_0:
      return {
          .bits = 8, .max_code = 255, .offset_log2 = 7, .scale_inputs = 32, .has_min = false, .super_scaled = false};
    case DType::kQ4_K:
      return {.bits = 4, .max_code = 15, .offset_log2 = -1, .scale_inputs = 32, .has_min = true, .super_scaled = true};
    case DType::kQ5_K:
      return {.bits = 8, .max_code = 31, .offset_log2 = -1, .scale_inputs = 32, .has_min = true, .super_scaled = true};
    case DType::kQ6_K:
      return {.bits = 8, .max_code = 63, .offset_log2 = 5, .scale_inputs = 16, .has_min = false, .super_scaled = true};
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  return {};
}

constexpr bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

// Where the sections of a panel begin, in bytes.
struct PanelLayout {
  PanelLayout(DType dtype, int64_t inputs);

  DType dtype;
  int64_t inputs;
  size_t scales = 0;
  size_t mins = 0;
  size_t supers = 0;
  size_t super_mins = 0;
  size_t bytes = 0;  // A multiple of 64.
};

// The panels of one of the tensors that a weight was stacked from.
struct PackedPart {
  PanelLayout layout;
  int64_t first_output = 0;
  int64_t outputs = 0;  // The last panel is filled up with zeros.
  int64_t first_panel = 0;
  std::byte* panels = nullptr;

  int64_t n_panels() const { return (outputs + kPanelRows - 1) / kPanelRows; }
  std::byte* panel(int64_t i) const { return panels + static_cast<size_t>(i) * layout.bytes; }
};

class PackedLinear final : public LinearWeight {
 public:
  int64_t out_features() const override { return out_features_; }
  int64_t in_features() const override { return in_features_; }
  size_t memory_bytes() const override { return bytes_; }

  std::span<const PackedPart> parts() const { return parts_; }
  int64_t n_panels() const { return parts_.back().first_panel + parts_.back().n_panels(); }

 private:
  friend absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts,
                                                                  OpContext& context);
  std::vector<PackedPart> parts_;
  std::shared_ptr<std::byte> buffer_;
  size_t bytes_ = 0;
  int64_t out_features_ = 0;
  int64_t in_features_ = 0;
};

// See Backend::PackLinear.
absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts, OpContext& context);

}  // namespace lukv::cpu
