// Tensor core instructions for all lanes of a warp at once, and how PTX lays their operands over the lanes: "Matrix
// Fragments for mma.m16n8k16" and "ldmatrix" of the PTX ISA manual.
#pragma once

#include "kernels/emulator/block.h"

namespace lukv::emulator {

struct Element {
  unsigned row;
  unsigned col;
};

// Of bf16 element i (two to a register, the low half first) of a lane's fragment: A is 16 x 16 with i < 8, B is 16 x 8
// with i < 4; of f32 element i < 4 of C and D, 16 x 8.
constexpr Element FragmentA(unsigned lane, unsigned i) {
  return {.row = lane / 4 + (i / 2 % 2) * 8, .col = lane % 4 * 2 + i % 2 + (i / 4) * 8};
}
constexpr Element FragmentB(unsigned lane, unsigned i) {
  return {.row = lane % 4 * 2 + i % 2 + (i / 2) * 8, .col = lane / 4};
}
constexpr Element FragmentC(unsigned lane, unsigned i) {
  return {.row = lane / 4 + (i / 2) * 8, .col = lane % 4 * 2 + i % 2};
}
// What lane `lane` gets from each 8 x 8 matrix: elements i < 2.
constexpr Element FragmentMatrix(unsigned lane, unsigned i) { return {.row = lane / 4, .col = lane % 4 * 2 + i}; }

// Answer the requests kMultiplyAdd and kLoadMatrices of all lanes.
void MultiplyAddWarp(WarpState& warp);
void LoadMatricesWarp(WarpState& warp, bool transposed);

}  // namespace lukv::emulator
