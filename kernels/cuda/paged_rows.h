// Which sequence a row of a step over pages belongs to.
#pragma once

#include "kernels/args.h"
#include "kernels/cuda/device.h"

namespace lukv::cuda {

// The sequence that has the row, or n_sequences.
LUKV_DEVICE int PagedSequence(const SequenceRows& sequences, int row) {
  int low = 0;
  int high = sequences.n_sequences;
  int probe = min(row, high - 1);  // Right at once when all have one row.
  while (low < high) {
    if (row < sequences.row_start[probe]) {
      high = probe;
    } else if (row >= sequences.row_start[probe + 1]) {
      low = probe + 1;
    } else {
      return probe;
    }
    probe = (low + high) / 2;
  }
  return sequences.n_sequences;
}

}  // namespace lukv::cuda
