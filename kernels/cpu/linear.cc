#include "kernels/cpu/linear.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"

namespace lukv::cpu {
namespace {

class RowMajorWeight final : public LinearWeight {
 public:
  int64_t out_features() const override { return rows; }
  int64_t in_features() const override { return cols; }
  size_t memory_bytes() const override { return values.size() * sizeof(float); }

  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;  // [rows, cols]
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts, OpContext&) {
  if (parts.empty()) return absl::InvalidArgumentError("PackLinear: no parts");
  auto weight = std::make_unique<RowMajorWeight>();
  weight->cols = parts[0].cols;
  for (const TensorView& part : parts) {
    if (part.cols != weight->cols) {
      return absl::InvalidArgumentError(
          absl::StrFormat("PackLinear: a part has %d columns, the first one %d", part.cols, weight->cols));
    }
    weight->values.resize(static_cast<size_t>((weight->rows + part.rows) * part.cols));
    Dequantize(part.dtype, part.data, part.rows * part.cols, weight->values.data() + weight->rows * part.cols);
    weight->rows += part.rows;
  }
  return weight;
}

void Linear(const LinearArgs& args, CpuCompute, OpContext& context) {
  const RowMajorWeight& weight = static_cast<const RowMajorWeight&>(*args.weight);
  context.pool.ParallelFor(args.in.rows, [&](int64_t row, int) {
    const float* x = args.in.row<float>(row);
    float* out = args.out.row<float>(row);
    for (int64_t n = 0; n < weight.rows; ++n) {
      float sum = args.bias != nullptr ? args.bias[n] : 0.0f;
      for (int64_t k = 0; k < weight.cols; ++k) sum += x[k] * weight.values[static_cast<size_t>(n * weight.cols + k)];
      out[n] = args.accumulate ? out[n] + sum : sum;
    }
  });
}

}  // namespace lukv::cpu
