#include "tools/bench/dummy_weights.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "engine/model/weight_layout.h"

namespace lukv {
namespace {

struct Freed {
  void operator()(void* data) const { std::free(data); }
};

using Buffer = std::unique_ptr<uint16_t[], Freed>;

class DummySource final : public WeightSource {
 public:
  DummySource(const ModelConfig& config, TensorMap tensors, Buffer buffer)
      : config_(config), tensors_(std::move(tensors)), buffer_(std::move(buffer)) {
    for (auto& [name, view] : tensors_) view.data = reinterpret_cast<const std::byte*>(buffer_.get());
  }

  const ModelConfig& config() const override { return config_; }
  absl::StatusOr<TensorView> Tensor(std::string_view name) const override { return FindTensor(tensors_, name); }
  bool Has(std::string_view name) const override { return tensors_.contains(name); }
  size_t file_bytes() const override { return 0; }

 private:
  const ModelConfig config_;
  TensorMap tensors_;
  const Buffer buffer_;
};

}  // namespace

void FillDummy(uint16_t* to, int64_t n) {
  // xorshift64 (Marsaglia 2003): four values of a step's 64 bits.
  uint64_t state = 0x9e3779b97f4a7c15u;
  for (int64_t i = 0; i < n; i += 4) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    for (int64_t j = 0; j < std::min<int64_t>(4, n - i); ++j) {
      // Sign and mantissa are random, the exponent is that of 2^-6: magnitudes from 0.016 to 0.031.
      to[i + j] = static_cast<uint16_t>(((state >> (16 * j)) & 0x807f) | 0x3c80);
    }
  }
}

absl::StatusOr<std::unique_ptr<WeightSource>> DummyWeights(const ModelConfig& config, DummyValues values) {
  int64_t largest = 0;
  TensorMap tensors;
  LUKV_RETURN_IF_ERROR(ForEachTensor(config, [&](const std::string& name, int64_t rows, int64_t cols) {
    tensors[name] = {.dtype = DType::kBF16, .rows = rows, .cols = cols};
    largest = std::max(largest, rows * cols);
    return absl::OkStatus();
  }));
  // Pages of zeros that nobody touches take no memory.
  Buffer buffer(static_cast<uint16_t*>(std::calloc(static_cast<size_t>(largest), sizeof(uint16_t))));
  if (buffer == nullptr) return absl::ResourceExhaustedError("there is no memory for the largest tensor");
  if (values == DummyValues::kRandom) FillDummy(buffer.get(), largest);
  return std::make_unique<DummySource>(config, std::move(tensors), std::move(buffer));
}

}  // namespace lukv
