// The inner loops of the linear layers. They work on tiles of up to 64 rows of activations and panels of 16 outputs.
//
// A row's result has the same bits in a tile of any size: per output, one chain of operations over the inputs in
// ascending order, whatever the other rows are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/args.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/packed_linear.h"

namespace lukv::cpu {

inline constexpr int64_t kTileRows = 64;

// One digit of the activations of a tile. The arrays are [blocks][rows] so that a kernel that goes through the blocks
// reads each as one stream.
struct Int8Digit {
  int8_t* values = nullptr;              // [blocks][rows][32]
  float* scales = nullptr;               // [blocks][rows]
  int32_t* negated_sums = nullptr;       // [blocks][rows]: of the block's values
  int32_t* negated_half_sums = nullptr;  // [blocks][rows][2]: of the first and the last 16

  // The arrays from element i of [blocks][rows] on.
  Int8Digit From(size_t i) const {
    return {values + i * kBlock, scales + i, negated_sums + i, negated_half_sums + i * 2};
  }
};

// Activations of one tile, quantised in blocks of 32. A block is written with one int8 digit per activation,
// x = scale * value, or with two, x = scale * value + scale' * value' with scale' = scale / 128 (QuantizeRows says
// which). A block that holds a NaN or an infinity has NaN for its scale, and so have all outputs of its row.
struct Int8Tile {
  int64_t rows = 0;
  Int8Digit first;
  Int8Digit second;              // Written only for the blocks that have two digits.
  uint16_t* fine = nullptr;      // [blocks][4]: bit i of word w = the block of row 16 * w + i has two digits
  float* scaled_sums = nullptr;  // [blocks][rows]: the sum of the block as it was written
};

// The tiles of a matrix, in memory that the caller owns.
struct Int8Tiles {
  static size_t Bytes(int64_t rows, int64_t inputs);
  Int8Tiles(int64_t rows, int64_t inputs, std::byte* memory);

  Int8Tile tile(int64_t t) const;

  int64_t rows;
  int64_t blocks;
  Int8Tile all;  // Tile t begins at block element t * 64 * blocks.
};

// f32 activations: per tile, groups of rows that a kernel keeps in registers, each [inputs][group's rows].
struct FloatTiles {
  static size_t Bytes(int64_t rows, int64_t inputs);

  int64_t rows;
  int64_t inputs;
  float* values;
};

// Rows that are quantised in one call, as one word of Int8Tile::fine.
inline constexpr int64_t kQuantizeRows = 16;

// Fills rows [first, first + count) of the tiles. REQUIRES: first is a multiple of kQuantizeRows, count is not more.
void QuantizeRows(const ConstMatrix& in, int64_t first, int64_t count, const Int8Tiles& tiles, OpContext& context);

// Fills tile t.
void PackFloatRows(const ConstMatrix& in, int64_t t, const FloatTiles& tiles, OpContext& context);

// acc[rows][16] = tile * panel^T.
void MultiplyInt8(const PanelLayout& layout, const std::byte* panel, const Int8Tile& tile, float* acc,
                  OpContext& context);

// The same for tile t of float activations. The panel is of a float type (DequantizePanel makes one).
void MultiplyFloat(DType dtype, const std::byte* panel, const FloatTiles& tiles, int64_t t, float* acc,
                   OpContext& context);

// Panel sums acc[panels][rows][16] of rows [first_row, first_row + rows) go to the columns [first, first + outputs) of
// args.out, with bias and what was there as args says. Several panels in one call: each row then gets a run of memory
// and not a cache line of every page.
void StoreResults(const LinearArgs& args, const float* acc, int64_t first_row, int64_t rows, int64_t first,
                  int64_t outputs, OpContext& context);

// out[inputs][16] = the panel of a quantised type as f32.
void DequantizePanel(const PanelLayout& layout, const std::byte* panel, float* out, OpContext& context);

}  // namespace lukv::cpu
