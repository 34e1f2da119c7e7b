// The CPU backend's linear layers against double-precision products, on every instruction set that this CPU has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/cpu/random_weights.h"

namespace lukv {
namespace {

using ::testing::HasSubstr;

constexpr DType kAllTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1,
                               DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
constexpr float kUntouched = 12345.0f;

bool IsQuantized(DType dtype) { return Traits(dtype).block_elements > 1; }

// [rows, cols] with `gap` untouched elements after each row.
struct Rows {
  Rows(int64_t n_rows, int64_t n_cols, int64_t gap)
      : rows(n_rows), cols(n_cols), stride(n_cols + gap), data(static_cast<size_t>(n_rows * stride), kUntouched) {}
  Matrix matrix() { return {.data = data.data(), .rows = rows, .cols = cols, .stride = stride}; }
  ConstMatrix matrix() const { return const_cast<Rows*>(this)->matrix(); }
  ConstMatrix row_matrix(int64_t r) const {
    ConstMatrix m = matrix();
    m.data = &at(r, 0);
    m.rows = 1;
    return m;
  }
  float& at(int64_t r, int64_t c) { return data[static_cast<size_t>(r * stride + c)]; }
  const float& at(int64_t r, int64_t c) const { return data[static_cast<size_t>(r * stride + c)]; }
  void ExpectGapsUntouched() const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = cols; c < stride; ++c) ASSERT_EQ(at(r, c), kUntouched) << "row " << r << " col " << c;
    }
  }

  int64_t rows;
  int64_t cols;
  int64_t stride;
  std::vector<float> data;
};

// Uneven sizes from block to block, some blocks all zero.
Rows RandomActivations(int64_t rows, int64_t cols, std::mt19937& random) {
  Rows x(rows, cols, 5);
  std::normal_distribution<float> normal;
  for (int64_t r = 0; r < rows; ++r) {
    float size = 1;
    for (int64_t c = 0; c < cols; ++c) {
      if (c % 32 == 0) size = random() % 8 == 0 ? 0.0f : std::exp(2 * normal(random));
      x.at(r, c) = size * normal(random);
    }
  }
  return x;
}

// How the int8 path rounds the block of row r that begins at `begin`.
struct BlockRounding {
  BlockRounding(const Rows& x, int64_t r, int64_t begin) {
    for (int64_t c = begin; c < begin + 32; ++c) absmax = std::max(absmax, std::abs(x.at(r, c)));
    double squares = 0;
    for (int64_t c = 0; c < x.cols; ++c) squares += static_cast<double>(x.at(r, c)) * x.at(r, c);
    fine = absmax > 4 * std::sqrt(squares / static_cast<double>(x.cols));
    steps = fine ? 127 * 128 + 63 : 127;
  }
  float absmax = 0;
  bool fine = false;  // Two digits.
  float steps = 0;    // absmax / steps is the distance of two values.
};

int64_t FineBlocks(const Rows& x) {
  int64_t n = 0;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t begin = 0; begin < x.cols; begin += 32) n += BlockRounding(x, r, begin).fine;
  }
  return n;
}

// What the int8 path sees: blocks of 32, rounded to the nearest step, ties to even.
Rows QuantizedActivations(const Rows& x) {
  Rows result = x;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t begin = 0; begin < x.cols; begin += 32) {
      const BlockRounding block(x, r, begin);
      for (int64_t c = begin; c < begin + 32; ++c) {
        const float inverse = block.absmax > 0 ? block.steps / block.absmax : 0.0f;
        result.at(r, c) = (block.absmax / block.steps) * std::nearbyint(x.at(r, c) * inverse);
      }
    }
  }
  return result;
}

// Sum of |w| times the largest rounding error of its activation block.
double QuantizationBound(const float* w, const Rows& x, int64_t r) {
  double bound = 0;
  for (int64_t begin = 0; begin < x.cols; begin += 32) {
    const BlockRounding block(x, r, begin);
    double weights = 0;
    for (int64_t c = begin; c < begin + 32; ++c) weights += std::abs(w[c]);
    bound += weights * static_cast<double>(block.absmax) / (2 * static_cast<double>(block.steps));
  }
  return bound;
}

struct Product {
  double value = 0;
  double magnitude = 0;  // Sum of the absolute products: what rounding errors are proportional to.
};

Product Dot(const float* w, const Rows& x, int64_t r) {
  Product p;
  for (int64_t c = 0; c < x.cols; ++c) {
    const double product = static_cast<double>(w[c]) * x.at(r, c);
    p.value += product;
    p.magnitude += std::abs(product);
  }
  return p;
}

class LinearTest : public ::testing::TestWithParam<std::tuple<const char*, CpuCompute>> {
 protected:
  // Null after it has checked the refusal, where the CPU lacks the target.
  std::unique_ptr<Backend> MakeBackend(int threads = 2) {
    const auto [target, compute] = GetParam();
    auto backend = MakeCpuBackend({.threads = threads, .compute = compute, .target = target});
    if (backend.ok()) return *std::move(backend);
    EXPECT_EQ(backend.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(backend.status().message()), HasSubstr(target));
    EXPECT_THAT(std::string(backend.status().message()), HasSubstr("this CPU has: avx2"));
    return nullptr;
  }
  bool Int8(DType dtype) const { return std::get<1>(GetParam()) == CpuCompute::kInt8 && IsQuantized(dtype); }

  // Checks out = x * w^T + bias + before for one tensor's columns.
  void ExpectProduct(const RandomTensor& tensor, const Rows& x, const Rows& out, int64_t first_col,
                     const std::vector<float>& bias, const Rows* before) {
    const std::vector<float> weights = tensor.values();
    const bool int8 = Int8(tensor.dtype);
    const Rows seen = int8 ? QuantizedActivations(x) : x;
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t n = 0; n < tensor.rows; ++n) {
        const int64_t col = first_col + n;
        const float* w = weights.data() + n * tensor.cols;
        double added = bias.empty() ? 0 : bias[static_cast<size_t>(col)];
        if (before != nullptr) added += before->at(r, col);
        const Product product = Dot(w, seen, r);
        const double tolerance = 1e-6 * (product.magnitude + std::abs(added)) + 1e-30;
        ASSERT_NEAR(out.at(r, col), product.value + added, tolerance)
            << Traits(tensor.dtype).name << " row " << r << " of " << x.rows << ", output " << n;
        if (int8) {
          ASSERT_NEAR(out.at(r, col), Dot(w, x, r).value + added, tolerance + 1.0001 * QuantizationBound(w, x, r))
              << Traits(tensor.dtype).name << " row " << r << " of " << x.rows << ", output " << n;
        }
      }
    }
    out.ExpectGapsUntouched();
  }
};

std::unique_ptr<LinearWeight> Pack(Backend& backend, const std::vector<TensorView>& parts) {
  auto weight = backend.PackLinear(parts);
  EXPECT_TRUE(weight.ok()) << weight.status();
  return *std::move(weight);
}

TEST_P(LinearTest, EveryTypeAndRowCount) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(1);
  for (const DType dtype : kAllTypes) {
    // Floats take any width; one block, and an odd number of blocks, else.
    const int64_t block = Traits(dtype).block_elements;
    for (const int64_t cols : {block == 1 ? int64_t{77} : block, 3 * block}) {
      const RandomTensor tensor = MakeRandomTensor(dtype, 37, cols, random);
      const auto weight = Pack(*backend, {tensor.view()});
      EXPECT_EQ(weight->out_features(), 37);
      EXPECT_EQ(weight->in_features(), cols);
      for (const int64_t rows : {1, 2, 3, 7, 16, 33, 65}) {
        const Rows x = RandomActivations(rows, cols, random);
        Rows out(rows, 37, 3);
        ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = x.matrix(), .out = out.matrix()}).ok());
        ExpectProduct(tensor, x, out, 0, {}, nullptr);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(LinearTest, BiasAndAccumulate) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const DType dtype : {DType::kQ4_1, DType::kQ8_0, DType::kBF16}) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 21, 64, random);
    const auto weight = Pack(*backend, {tensor.view()});
    std::vector<float> bias(21);
    for (float& b : bias) b = normal(random);
    const Rows x = RandomActivations(9, 64, random);
    for (const bool with_bias : {false, true}) {
      for (const bool accumulate : {false, true}) {
        Rows out(9, 21, 1);
        for (int64_t r = 0; r < 9; ++r) {
          for (int64_t n = 0; n < 21; ++n) out.at(r, n) = normal(random);
        }
        const Rows before = out;
        ASSERT_TRUE(backend
                        ->Linear({.weight = weight.get(),
                                  .bias = with_bias ? bias.data() : nullptr,
                                  .in = x.matrix(),
                                  .out = out.matrix(),
                                  .accumulate = accumulate})
                        .ok());
        ExpectProduct(tensor, x, out, 0, with_bias ? bias : std::vector<float>{}, accumulate ? &before : nullptr);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(LinearTest, StackedPartsOfDifferentTypes) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(3);
  const std::vector<RandomTensor> tensors = {
      MakeRandomTensor(DType::kQ4_K, 20, 512, random), MakeRandomTensor(DType::kQ6_K, 7, 512, random),
      MakeRandomTensor(DType::kF32, 5, 512, random), MakeRandomTensor(DType::kQ8_0, 32, 512, random)};
  std::vector<TensorView> views;
  for (const RandomTensor& tensor : tensors) views.push_back(tensor.view());
  const auto weight = Pack(*backend, views);
  ASSERT_EQ(weight->out_features(), 64);
  const Rows x = RandomActivations(6, 512, random);
  Rows out(6, 64, 2);
  ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = x.matrix(), .out = out.matrix()}).ok());
  int64_t first = 0;
  for (const RandomTensor& tensor : tensors) {
    ExpectProduct(tensor, x, out, first, {}, nullptr);
    if (HasFatalFailure()) return;
    first += tensor.rows;
  }
}

// Every position of a block in a row and of a row in a tile can have a second digit.
TEST_P(LinearTest, BlocksThatAreLargeForTheirRow) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 21, 768, random);
    const auto weight = Pack(*backend, {tensor.view()});
    Rows x(70, 768, 0);
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) = normal(random) * (c / 32 == r % 24 ? 20.0f : 1.0f);
    }
    ASSERT_EQ(FineBlocks(x), x.rows);
    Rows out(70, 21, 0);
    ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = x.matrix(), .out = out.matrix()}).ok());
    ExpectProduct(tensor, x, out, 0, {}, nullptr);
    if (HasFatalFailure()) return;
  }
}

TEST_P(LinearTest, NanAndInfinityReachEveryOutputOfTheirRow) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(9);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : kAllTypes) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 21, 512, random);
    const auto weight = Pack(*backend, {tensor.view()});
    Rows x = RandomActivations(20, 512, random);
    Rows clean_out(20, 21, 0);
    ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = x.matrix(), .out = clean_out.matrix()}).ok());
    // First, inner and last values of blocks.
    x.at(3, 0) = kNan;
    x.at(4, 77) = -kNan;
    x.at(7, 511) = kInfinity;
    x.at(19, 32) = -kInfinity;
    Rows out(20, 21, 0);
    ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = x.matrix(), .out = out.matrix()}).ok());
    for (const int64_t r : {3, 4, 7, 19}) {
      for (int64_t n = 0; n < 21; ++n) {
        // f32 products may be infinite instead.
        EXPECT_TRUE(std::isnan(out.at(r, n)) || (!Int8(dtype) && std::isinf(out.at(r, n))))
            << Traits(dtype).name << " row " << r << " output " << n << ": " << out.at(r, n);
        clean_out.at(r, n) = out.at(r, n);
      }
    }
    EXPECT_EQ(std::memcmp(out.data.data(), clean_out.data.data(), out.data.size() * sizeof(float)), 0)
        << Traits(dtype).name;
  }
}

// The same bits for a row alone, in a batch of any size, and with any number of threads.
TEST_P(LinearTest, ARowDoesNotDependOnTheOthers) {
  const auto backend = MakeBackend(2);
  if (backend == nullptr) return;
  const auto single = MakeBackend(1);
  std::mt19937 random(4);
  for (const DType dtype : kAllTypes) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 403, 512, random);
    const auto weight = Pack(*backend, {tensor.view()});
    const Rows x = RandomActivations(150, 512, random);
    ASSERT_GT(FineBlocks(x), 100);
    Rows out(150, 403, 0);
    ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = x.matrix(), .out = out.matrix()}).ok());
    Rows single_out(150, 403, 0);
    ASSERT_TRUE(single->Linear({.weight = weight.get(), .in = x.matrix(), .out = single_out.matrix()}).ok());
    EXPECT_EQ(std::memcmp(out.data.data(), single_out.data.data(), out.data.size() * sizeof(float)), 0)
        << Traits(dtype).name;
    for (const int64_t rows : {1, 2, 5, 13, 70}) {
      for (const int64_t first : {int64_t{0}, 75 - rows / 2, 150 - rows}) {
        ConstMatrix some = x.matrix();
        some.data = &x.at(first, 0);
        some.rows = rows;
        Rows some_out(rows, 403, 0);
        ASSERT_TRUE(backend->Linear({.weight = weight.get(), .in = some, .out = some_out.matrix()}).ok());
        EXPECT_EQ(std::memcmp(&some_out.at(0, 0), &out.at(first, 0), some_out.data.size() * sizeof(float)), 0)
            << Traits(dtype).name << " rows " << first << " to " << first + rows;
      }
    }
  }
}

TEST_P(LinearTest, WeightMemoryIsThatOfTheFile) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(5);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ8_0}) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 64, 128, random);
    EXPECT_EQ(Pack(*backend, {tensor.view()})->memory_bytes(), 64 * RowBytes(dtype, 128)) << Traits(dtype).name;
  }
  // K-quants pay a byte for each 6-bit scale; Q5_K and Q6_K a byte for each code.
  for (const auto& [dtype, bits_x_256] :
       {std::pair{DType::kQ4_K, 4 * 256 + 8 * 16 + 32}, std::pair{DType::kQ5_K, 8 * 256 + 8 * 16 + 32},
        std::pair{DType::kQ6_K, 8 * 256 + 16 * 8 + 16}}) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 64, 512, random);
    EXPECT_EQ(Pack(*backend, {tensor.view()})->memory_bytes(), static_cast<size_t>(64 * 2 * bits_x_256 / 8))
        << Traits(dtype).name;
  }
}

TEST_P(LinearTest, RefusesPartsThatDoNotFit) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(6);
  const RandomTensor wide = MakeRandomTensor(DType::kF32, 4, 64, random);
  const RandomTensor narrow = MakeRandomTensor(DType::kF32, 4, 32, random);
  EXPECT_EQ(backend->PackLinear(std::vector<TensorView>{wide.view(), narrow.view()}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(backend->PackLinear({}).status().code(), absl::StatusCode::kInvalidArgument);
  TensorView odd = wide.view();
  odd.dtype = DType::kQ4_K;
  const auto status = backend->PackLinear(std::vector<TensorView>{odd}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("64 columns"));
}

TEST_P(LinearTest, LooksUpEmbeddings) {
  const auto backend = MakeBackend();
  if (backend == nullptr) return;
  std::mt19937 random(7);
  for (const DType dtype : kAllTypes) {
    const RandomTensor tensor = MakeRandomTensor(dtype, 50, 256, random);
    const auto table = backend->PackEmbedding(tensor.view());
    ASSERT_TRUE(table.ok());
    EXPECT_EQ((*table)->vocabulary(), 50);
    EXPECT_EQ((*table)->hidden(), 256);
    std::vector<int32_t> ids(40);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 50);
    Rows out(40, 256, 8);
    ASSERT_TRUE(backend->Embed({.table = table->get(), .ids = ids.data(), .out = out.matrix()}).ok());
    const std::vector<float> values = tensor.values();
    for (int64_t i = 0; i < 40; ++i) {
      const float* row = values.data() + ids[static_cast<size_t>(i)] * 256;
      EXPECT_EQ(std::memcmp(&out.at(i, 0), row, 256 * sizeof(float)), 0) << Traits(dtype).name << " row " << i;
    }
    out.ExpectGapsUntouched();
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, LinearTest,
                         ::testing::Combine(::testing::Values("avx2", "avx512", "avx512_vnni"),
                                            ::testing::Values(CpuCompute::kInt8, CpuCompute::kF32)),
                         [](const auto& param_info) {
                           return std::string(std::get<0>(param_info.param)) +
                                  (std::get<1>(param_info.param) == CpuCompute::kInt8 ? "_int8" : "_f32");
                         });

}  // namespace
}  // namespace lukv
