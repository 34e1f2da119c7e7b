// What the scorers that need a softmax over all entries share: the rows' parts are brought together in a fixed order,
// and protected entries get the greatest score + 1.
#pragma once

#include "kernels/cuda/op_context.h"
#include "kernels/evict_args.h"

namespace lukv::cuda {

// Steps through one piece of memory; without memory it counts.
class FloatMemory {
 public:
  explicit FloatMemory(void* memory) : memory_(static_cast<float*>(memory)) {}
  // 16-byte aligned.
  float* Take(int64_t n) {
    float* const begin = memory_ == nullptr ? nullptr : memory_ + taken_;
    taken_ += (n + 3) / 4 * 4;
    return begin;
  }
  size_t bytes() const { return static_cast<size_t>(taken_) * sizeof(float); }

 private:
  float* const memory_;
  int64_t taken_ = 0;
};

// Softmax statistics of `rows` rows whose entries come in `parts` parts: the greatest logit of each part (to the base
// 2) and the sum of 2^(logit - max). Device pointers.
struct SoftmaxParts {
  float* max = nullptr;  // [parts, rows]
  float* sum = nullptr;  // [parts, rows]
  int32_t parts = 0;
  int32_t rows = 0;
};

// Over all parts: max[r], and factor[r] so that 2^(logit - max[r]) * factor[r] add up to 1.
cudaError_t MergeSoftmax(const SoftmaxParts& parts, float* max, float* factor, const OpContext& context);

// Entries [first, first + n) of every head become 1 + the greatest of n_greatest numbers and 0.
cudaError_t FillProtected(const ScoreMatrix& scores, int32_t first, int32_t n, const float* greatest,
                          int64_t n_greatest, const OpContext& context);

}  // namespace lukv::cuda
