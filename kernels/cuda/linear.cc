#include "kernels/cuda/linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "kernels/argument_checks.h"
#include "kernels/cuda/status.h"
#include "kernels/float16.h"

namespace lukv::cuda {
namespace {

constexpr size_t kAlignment = 256;  // Of a part in its weight's buffer.

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool IsQuantised(DType dtype) { return Traits(dtype).block_elements > 1; }

size_t ElementBytes(DType dtype) { return static_cast<size_t>(Traits(dtype).block_bytes); }

// Writes the tensor to `to` as dense rows of `dtype`.
absl::Status UploadDense(Backend& backend, const TensorView& tensor, DType dtype, std::byte* to) {
  const size_t row_bytes = RowBytes(tensor.dtype, tensor.cols);
  if (tensor.dtype == dtype) {
    return backend.CopyToDevice(to, tensor.data, static_cast<size_t>(tensor.rows) * row_bytes);
  }
  const size_t cols = static_cast<size_t>(tensor.cols);
  const int64_t rows_at_once = std::max<int64_t>(1, (int64_t{1} << 20) / tensor.cols);
  std::vector<float> values;
  std::vector<uint16_t> halves;
  for (int64_t row = 0; row < tensor.rows; row += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, tensor.rows - row);
    values.resize(static_cast<size_t>(rows) * cols);
    Dequantize(tensor.dtype, tensor.data + static_cast<size_t>(row) * row_bytes, rows * tensor.cols, values.data());
    const void* from = values.data();
    if (dtype == DType::kBF16) {
      halves.resize(values.size());
      std::transform(values.begin(), values.end(), halves.begin(), FloatToBf16);
      from = halves.data();
    }
    const size_t at = static_cast<size_t>(row) * cols * ElementBytes(dtype);
    LUKV_RETURN_IF_ERROR(backend.CopyToDevice(to + at, from, values.size() * ElementBytes(dtype)));
  }
  return absl::OkStatus();
}

}  // namespace

PackedLinear::PackedLinear(DeviceBuffer buffer, std::vector<WeightRows> parts,
                           std::shared_ptr<UnpackedWeights> unpacked)
    : buffer_(std::move(buffer)), parts_(std::move(parts)), unpacked_(std::move(unpacked)) {
  for (const WeightRows& part : parts_) out_features_ += part.rows;
}

PackedLinear::~PackedLinear() { unpacked_->Forget(this); }

UnpackedWeights::~UnpackedWeights() {
  for (const Entry& entry : entries_) cudaFree(entry.data);
}

absl::StatusOr<const void*> UnpackedWeights::Get(const PackedLinear& weight, DType dtype, const OpContext& context) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.weight == &weight; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return found->data;
  }
  const size_t bytes = static_cast<size_t>(weight.out_features() * weight.in_features()) * ElementBytes(dtype);
  while (!entries_.empty() && bytes_ + bytes > limit_bytes_) Forget(entries_.back().weight);
  void* data = nullptr;
  LUKV_RETURN_IF_ERROR(ToStatus(cudaMalloc(&data, bytes), "unpacking a weight"));
  entries_.push_front({.weight = &weight, .data = data, .bytes = bytes});
  bytes_ += bytes;
  std::byte* next = static_cast<std::byte*>(data);
  for (const WeightRows& part : weight.parts()) {
    const cudaError_t error = Unpack(part, dtype, next, context);
    if (error != cudaSuccess) {
      Forget(&weight);
      return ToStatus(error, "unpacking a weight");
    }
    next += static_cast<size_t>(part.rows * part.cols) * ElementBytes(dtype);
  }
  return data;
}

void UnpackedWeights::Forget(const PackedLinear* weight) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.weight == weight; });
  if (found == entries_.end()) return;
  cudaFree(found->data);  // Waits for whoever still reads it.
  bytes_ -= found->bytes;
  entries_.erase(found);
}

absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(Backend& backend, std::span<const TensorView> parts,
                                                         DType activations,
                                                         const std::shared_ptr<UnpackedWeights>& unpacked) {
  LUKV_RETURN_IF_ERROR(CheckLinearParts(parts));
  const bool quantised =
      std::all_of(parts.begin(), parts.end(), [](const TensorView& p) { return IsQuantised(p.dtype); });
  size_t bytes = 0;
  for (const TensorView& part : parts) {
    const size_t size = static_cast<size_t>(part.rows) * RowBytes(quantised ? part.dtype : activations, part.cols);
    bytes += quantised ? Aligned(size) : size;  // Dense parts are one matrix.
  }
  LUKV_ASSIGN_OR_RETURN(DeviceBuffer buffer, backend.Allocate(bytes));
  std::byte* next = buffer.as<std::byte>();
  std::vector<WeightRows> rows;
  for (const TensorView& part : parts) {
    const size_t size = static_cast<size_t>(part.rows) * RowBytes(quantised ? part.dtype : activations, part.cols);
    if (quantised) {
      LUKV_RETURN_IF_ERROR(backend.CopyToDevice(next, part.data, size));
      rows.push_back({.dtype = part.dtype, .rows = part.rows, .cols = part.cols, .data = next});
      next += Aligned(size);
      continue;
    }
    LUKV_RETURN_IF_ERROR(UploadDense(backend, part, activations, next));
    next += size;
    if (rows.empty()) rows.push_back({.dtype = activations, .rows = 0, .cols = part.cols, .data = buffer.data()});
    rows.front().rows += part.rows;
  }
  // The views' memory may go now.
  LUKV_RETURN_IF_ERROR(backend.Synchronize());
  return std::make_unique<PackedLinear>(std::move(buffer), std::move(rows), unpacked);
}

absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(Backend& backend, const TensorView& table,
                                                               DType activations) {
  LUKV_RETURN_IF_ERROR(CheckLinearParts({&table, 1}));
  const DType dtype = IsQuantised(table.dtype) ? table.dtype : activations;
  const size_t bytes = static_cast<size_t>(table.rows) * RowBytes(dtype, table.cols);
  LUKV_ASSIGN_OR_RETURN(DeviceBuffer buffer, backend.Allocate(bytes));
  LUKV_RETURN_IF_ERROR(IsQuantised(dtype) ? backend.CopyToDevice(buffer.data(), table.data, bytes)
                                          : UploadDense(backend, table, dtype, buffer.as<std::byte>()));
  LUKV_RETURN_IF_ERROR(backend.Synchronize());
  const WeightRows rows{.dtype = dtype, .rows = table.rows, .cols = table.cols, .data = buffer.data()};
  return std::make_unique<PackedEmbedding>(std::move(buffer), rows);
}

absl::Status Linear(const LinearArgs& args, Gemm& gemm, UnpackedWeights& unpacked, const OpContext& context) {
  const PackedLinear& weight = static_cast<const PackedLinear&>(*args.weight);
  if (args.decode && weight.quantised()) {
    int64_t column = 0;
    for (const WeightRows& part : weight.parts()) {
      Matrix out = args.out;
      out.data = static_cast<std::byte*>(out.data) + static_cast<size_t>(column) * ElementBytes(out.dtype);
      out.cols = part.rows;
      LUKV_RETURN_IF_ERROR(ToStatus(QuantisedLinear({.weight = part,
                                                     .bias = args.bias != nullptr ? args.bias + column : nullptr,
                                                     .in = args.in,
                                                     .out = out,
                                                     .accumulate = args.accumulate},
                                                    context),
                                    "Linear"));
      column += part.rows;
    }
    return absl::OkStatus();
  }
  const void* dense = weight.parts().front().data;
  if (weight.quantised()) {
    LUKV_ASSIGN_OR_RETURN(dense, unpacked.Get(weight, args.in.dtype, context));
  }
  if (args.bias != nullptr) {
    LUKV_RETURN_IF_ERROR(ToStatus(AddBias(args.bias, args.accumulate, args.out, context), "Linear's bias"));
  }
  return gemm.Run(dense, args.in, args.out, args.accumulate || args.bias != nullptr, args.decode, context);
}

}  // namespace lukv::cuda
