// Linear and Embed over every weight type. What a quantised tensor holds is what Dequantize says.
#include <algorithm>
#include <cmath>

#include "tests/conformance/fixture.h"
#include "tests/kernels/cpu/random_weights.h"

namespace lukv::conformance {
namespace {

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1,
                            DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

class Linear : public BackendTest {
 protected:
  struct Layer {
    std::unique_ptr<LinearWeight> weight;
    std::vector<float> values;  // [out_features, in_features]
  };

  Layer Pack(const std::vector<RandomTensor>& tensors) {
    Layer layer;
    std::vector<TensorView> views;
    for (const RandomTensor& tensor : tensors) {
      views.push_back(tensor.view());
      const std::vector<float> values = tensor.values();
      layer.values.insert(layer.values.end(), values.begin(), values.end());
    }
    auto weight = backend_->PackLinear(views);
    EXPECT_TRUE(weight.ok()) << weight.status();
    layer.weight = *std::move(weight);
    return layer;
  }

  // Error that a backend may make in one output: of its sums and of what it does to the activations.
  double Bound(std::span<const float> x, std::span<const float> w, double extra) const {
    double bound = extra;
    for (size_t k = 0; k < x.size(); k += 32) {
      const size_t end = std::min(x.size(), k + 32);
      double largest = 0;
      double weights = 0;
      for (size_t i = k; i < end; ++i) {
        largest = std::max(largest, std::abs(double{x[i]}));
        weights += std::abs(double{w[i]});
        bound += std::abs(double{x[i]} * w[i]);
      }
      bound += GetParam().activation_error / GetParam().tolerance * largest * weights;
    }
    return bound * GetParam().tolerance;
  }

  void Check(const Layer& layer, int64_t rows, bool with_bias, bool accumulate) {
    for (const bool decode : {false, true}) CheckRows(layer, rows, with_bias, accumulate, decode);
  }

  void CheckRows(const Layer& layer, int64_t rows, bool with_bias, bool accumulate, bool decode) {
    SCOPED_TRACE(decode ? "decode rows" : "prefill rows");
    const int64_t outputs = layer.weight->out_features();
    const int64_t inputs = layer.weight->in_features();
    const size_t n = static_cast<size_t>(outputs);
    const size_t k = static_cast<size_t>(inputs);
    ASSERT_EQ(layer.values.size(), n * k);
    Random random(80);
    const DeviceMatrix in(*backend_, rows, inputs, random.Values(static_cast<size_t>(rows) * k, 0.2f));
    const std::vector<float> bias = random.Values(n, 1.0f);
    const DeviceArray<float> device_bias(*backend_, bias);
    const DeviceMatrix out(*backend_, rows, outputs, random.Values(static_cast<size_t>(rows) * n, -1.0f));
    const std::vector<float> x = in.Get();
    const std::vector<float> before = out.Get();
    ASSERT_TRUE(backend_
                    ->Linear({.weight = layer.weight.get(),
                              .bias = with_bias ? device_bias.data() : nullptr,
                              .in = in.view(),
                              .out = out.view(),
                              .accumulate = accumulate,
                              .decode = decode})
                    .ok());
    const std::vector<float> got = out.Get();
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      const std::span<const float> row = std::span(x).subspan(r * k, k);
      for (size_t o = 0; o < n; ++o) {
        const std::span<const float> w = std::span(layer.values).subspan(o * k, k);
        double expected = (with_bias ? double{bias[o]} : 0) + (accumulate ? double{before[r * n + o]} : 0);
        const double size = std::abs(expected);
        for (size_t i = 0; i < k; ++i) expected += double{row[i]} * w[i];
        ASSERT_NEAR(got[r * n + o], expected, Bound(row, w, size)) << "row " << r << " output " << o;
      }
    }
    // The last row on its own: the same bits.
    const DeviceMatrix one(*backend_, 1, inputs, std::span(x).last(k));
    const DeviceMatrix one_out(*backend_, 1, outputs, std::span(before).last(n));
    ASSERT_TRUE(backend_
                    ->Linear({.weight = layer.weight.get(),
                              .bias = with_bias ? device_bias.data() : nullptr,
                              .in = one.view(),
                              .out = one_out.view(),
                              .accumulate = accumulate,
                              .decode = decode})
                    .ok());
    EXPECT_TRUE(SameBits(one_out.Get(), std::span(got).last(n)));
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Linear);
INSTANTIATE_TEST_SUITE_P(Backends, Linear, testing::ValuesIn(Backends()), BackendCaseName);

TEST_P(Linear, AgreesWithTheOracleForEveryWeightType) {
  std::mt19937 random(1);
  for (const DType dtype : kTypes) {
    SCOPED_TRACE(Traits(dtype).name);
    const Layer layer = Pack({MakeRandomTensor(dtype, 37, 512, random)});
    for (const int64_t rows : {1, 3, 5, 70}) Check(layer, rows, /*with_bias=*/rows == 5, /*accumulate=*/rows == 70);
  }
}

TEST_P(Linear, StacksPartsOfDifferentTypes) {
  std::mt19937 random(2);
  const Layer layer =
      Pack({MakeRandomTensor(DType::kQ4_K, 24, 256, random), MakeRandomTensor(DType::kF16, 3, 256, random),
            MakeRandomTensor(DType::kQ6_K, 24, 256, random)});
  Check(layer, 9, /*with_bias=*/true, /*accumulate=*/true);
}

TEST_P(Linear, TakesOddSizesOfFloatTypes) {
  std::mt19937 random(3);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Check(Pack({MakeRandomTensor(dtype, 19, 45, random)}), 3, /*with_bias=*/false, /*accumulate=*/false);
  }
}

TEST_P(Linear, RefusesPartsOfDifferentWidths) {
  std::mt19937 random(4);
  const RandomTensor a = MakeRandomTensor(DType::kF32, 8, 64, random);
  const RandomTensor b = MakeRandomTensor(DType::kF32, 8, 32, random);
  const TensorView views[] = {a.view(), b.view()};
  EXPECT_EQ(backend_->PackLinear(views).status().code(), absl::StatusCode::kInvalidArgument);
}

class Embed : public BackendTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Embed);
INSTANTIATE_TEST_SUITE_P(Backends, Embed, testing::ValuesIn(Backends()), BackendCaseName);

TEST_P(Embed, LooksRowsUpExactly) {
  std::mt19937 random(5);
  for (const DType dtype : kTypes) {
    SCOPED_TRACE(Traits(dtype).name);
    constexpr int64_t kHidden = 256;
    const RandomTensor table = MakeRandomTensor(dtype, 11, kHidden, random);
    auto weight = backend_->PackEmbedding(table.view());
    ASSERT_TRUE(weight.ok()) << weight.status();
    EXPECT_EQ((*weight)->vocabulary(), 11);
    const std::vector<int32_t> ids = {10, 0, 0, 7};
    const DeviceArray<int32_t> device_ids(*backend_, ids);
    const DeviceMatrix out(*backend_, 4, kHidden, backend_->activation_dtype());
    ASSERT_TRUE(backend_->Embed({.table = weight->get(), .ids = device_ids.data(), .out = out.view()}).ok());
    std::vector<float> expected;
    for (const int32_t id : ids) {
      for (int64_t c = 0; c < kHidden; ++c) {
        expected.push_back(
            Rounded(table.values()[static_cast<size_t>(id * kHidden + c)], backend_->activation_dtype()));
      }
    }
    EXPECT_TRUE(SameBits(out.Get(), expected));
  }
}

}  // namespace
}  // namespace lukv::conformance
