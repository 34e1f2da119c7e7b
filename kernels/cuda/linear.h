// Linear layers of the CUDA backend: packing of weights, and which arithmetic a layer takes.
#pragma once

#include <list>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/weights.h"

namespace lukv::cuda {

class UnpackedWeights;

class PackedLinear final : public LinearWeight {
 public:
  PackedLinear(DeviceBuffer buffer, std::vector<WeightRows> parts, std::shared_ptr<UnpackedWeights> unpacked);
  ~PackedLinear() override;
  int64_t out_features() const override { return out_features_; }
  int64_t in_features() const override { return parts_.front().cols; }
  size_t memory_bytes() const override { return buffer_.bytes(); }

  // One dense part, or quantised ones.
  std::span<const WeightRows> parts() const { return parts_; }
  bool quantised() const { return parts_.front().quantised(); }

 private:
  const DeviceBuffer buffer_;
  const std::vector<WeightRows> parts_;
  const std::shared_ptr<UnpackedWeights> unpacked_;
  int64_t out_features_ = 0;
};

// Dense copies of the quantised weights that were used last. A prefill goes through the chunks of a layer before it
// goes to the next layer, so that a weight is unpacked once for many chunks.
class UnpackedWeights {
 public:
  explicit UnpackedWeights(size_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ~UnpackedWeights();

  // [out_features, in_features] of `dtype`, valid until the next call.
  absl::StatusOr<const void*> Get(const PackedLinear& weight, DType dtype, const OpContext& context);
  void Forget(const PackedLinear* weight);
  // More will not be taken, but for a single weight that is larger.
  size_t limit_bytes() const { return limit_bytes_; }

 private:
  struct Entry {
    const PackedLinear* weight;
    void* data;
    size_t bytes;
  };
  const size_t limit_bytes_;
  size_t bytes_ = 0;
  std::list<Entry> entries_;  // The one used last in front.
};

absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Backend& backend, std::span<const TensorView> parts,
                                                         DType activations,
                                                         const std::shared_ptr<UnpackedWeights>& unpacked);

class PackedEmbedding final : public EmbeddingWeight {
 public:
  PackedEmbedding(DeviceBuffer buffer, const WeightRows& rows) : buffer_(std::move(buffer)), rows_(rows) {}
  int64_t vocabulary() const override { return rows_.rows; }
  int64_t hidden() const override { return rows_.cols; }
  const WeightRows& rows() const { return rows_; }

 private:
  const DeviceBuffer buffer_;
  const WeightRows rows_;
};

absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(Backend& backend, const TensorView& table,
                                                               DType activations);

absl::Status Linear(const LinearArgs& args, Gemm& gemm, UnpackedWeights& unpacked, const OpContext& context);

}  // namespace lukv::cuda
