#include "tools/bench/peaks.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/status_macros.h"
#include "tools/bench/dummy_weights.h"

namespace lukv {
namespace {

constexpr double kLongEnough = 0.010;
constexpr int kTries = 5;

// Of the best call of a few.
absl::StatusOr<double> Seconds(Backend& backend, int tries, absl::FunctionRef<absl::Status()> op) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < tries; ++i) {
    LUKV_RETURN_IF_ERROR(backend.Synchronize());
    const auto start = std::chrono::steady_clock::now();
    LUKV_RETURN_IF_ERROR(op());
    LUKV_RETURN_IF_ERROR(backend.Synchronize());
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

absl::StatusOr<DeviceBuffer> Upload(Backend& backend, const void* data, size_t bytes) {
  LUKV_ASSIGN_OR_RETURN(DeviceBuffer buffer, backend.Allocate(bytes));
  LUKV_RETURN_IF_ERROR(backend.CopyToDevice(buffer.data(), data, bytes));
  return buffer;
}

Matrix Whole(const DeviceBuffer& buffer, DType dtype, int64_t rows, int64_t cols) {
  return {.data = buffer.data(), .dtype = dtype, .rows = rows, .cols = cols, .stride = cols};
}

// `rows` rows of 8 KiB, in another order.
absl::StatusOr<double> CopyRate(Backend& backend, int64_t rows, double& seconds) {
  const DType dtype = backend.activation_dtype();
  const int64_t cols = 8192 / Traits(dtype).block_bytes;
  const std::vector<std::byte> zeros(static_cast<size_t>(rows) * 8192);
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) ids[static_cast<size_t>(i)] = static_cast<int32_t>(rows - 1 - i);
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer in, Upload(backend, zeros.data(), zeros.size()));
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer out, backend.Allocate(zeros.size()));
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer device_ids, Upload(backend, ids.data(), ids.size() * sizeof(int32_t)));
  const GatherRowsArgs args{
      .in = Whole(in, dtype, rows, cols), .rows = device_ids.as<int32_t>(), .out = Whole(out, dtype, rows, cols)};
  LUKV_ASSIGN_OR_RETURN(seconds, Seconds(backend, kTries, [&] { return backend.GatherRows(args); }));
  return static_cast<double>(CostOf(args).bytes) / seconds;
}

absl::StatusOr<double> ProductRate(Backend& backend, int64_t n, double& seconds) {
  const DType dtype = backend.activation_dtype();
  std::vector<uint16_t> values(static_cast<size_t>(n * n));
  FillDummy(values.data(), n * n);
  const TensorView view{
      .dtype = DType::kBF16, .rows = n, .cols = n, .data = reinterpret_cast<const std::byte*>(values.data())};
  LUKV_ASSIGN_OR_RETURN(const std::unique_ptr<LinearWeight> weight, backend.PackLinear({&view, 1}));
  std::vector<float> as_float;
  const void* input = values.data();
  if (dtype == DType::kF32) {
    as_float.resize(values.size());
    Dequantize(DType::kBF16, view.data, n * n, as_float.data());
    input = as_float.data();
  }
  const size_t bytes = values.size() * static_cast<size_t>(Traits(dtype).block_bytes);
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer in, Upload(backend, input, bytes));
  LUKV_ASSIGN_OR_RETURN(const DeviceBuffer out, backend.Allocate(bytes));
  const LinearArgs args{.weight = weight.get(), .in = Whole(in, dtype, n, n), .out = Whole(out, dtype, n, n)};
  LUKV_ASSIGN_OR_RETURN(seconds, Seconds(backend, kTries, [&] { return backend.Linear(args); }));
  return static_cast<double>(CostOf(args).flops) / seconds;
}

}  // namespace

absl::StatusOr<Peaks> MeasurePeaks(Backend& backend) {
  constexpr int64_t kMostRows = int64_t{1} << 17;
  constexpr int64_t kMostSide = 8192;
  Peaks peaks;
  double seconds = 0;
  for (int64_t rows = 16; rows <= kMostRows && seconds < kLongEnough; rows *= 2) {
    LUKV_ASSIGN_OR_RETURN(peaks.bytes_per_s, CopyRate(backend, rows, seconds));
  }
  seconds = 0;
  for (int64_t n = 128; n <= kMostSide && seconds < kLongEnough; n *= 2) {
    LUKV_ASSIGN_OR_RETURN(peaks.flops_per_s, ProductRate(backend, n, seconds));
  }
  return peaks;
}

double FloorSeconds(const OpCost& cost, const Peaks& peaks) {
  return std::max(static_cast<double>(cost.bytes) / peaks.bytes_per_s,
                  static_cast<double>(cost.flops) / peaks.flops_per_s);
}

}  // namespace lukv
