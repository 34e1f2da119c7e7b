// Ops that work row by row on activations: RmsNorm, SiluMul, GatherRows.
#include <cmath>

#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

class RowOps : public BackendTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RowOps);
INSTANTIATE_TEST_SUITE_P(Backends, RowOps, testing::ValuesIn(Backends()), BackendCaseName);

struct Shape {
  int64_t rows;
  int64_t cols;
};
constexpr Shape kShapes[] = {{1, 576}, {7, 64}, {33, 10}, {40, 577}, {2, 1}, {65, 48}};

TEST_P(RowOps, RmsNormAgreesWithTheOracle) {
  constexpr float kEpsilon = 1e-5f;
  Random random(1);
  for (const auto [rows, cols] : kShapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << cols);
    const size_t n = static_cast<size_t>(cols);
    const DeviceMatrix x(*backend_, rows, cols, random.Values(static_cast<size_t>(rows) * n, 0.3f));
    const std::vector<float> weight = random.Values(n, 1.0f);
    const DeviceArray<float> device_weight(*backend_, weight);
    const DeviceMatrix out(*backend_, rows, cols, backend_->activation_dtype());
    ASSERT_TRUE(
        backend_->RmsNorm({.x = x.view(), .weight = device_weight.data(), .epsilon = kEpsilon, .out = out.view()})
            .ok());
    const std::vector<float> in = x.Get();
    const std::vector<float> got = out.Get();
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      const oracle::Vector expected = oracle::RmsNorm(std::span(in).subspan(r * n, n), weight, kEpsilon);
      for (size_t c = 0; c < n; ++c) {
        ASSERT_NEAR(got[r * n + c], expected[c], GetParam().tolerance * (1 + std::abs(expected[c])));
      }
    }
    // In place, and each row on its own: the same bits.
    ASSERT_TRUE(
        backend_->RmsNorm({.x = x.view(), .weight = device_weight.data(), .epsilon = kEpsilon, .out = x.view()}).ok());
    EXPECT_TRUE(SameBits(x.Get(), got));
    const DeviceMatrix row(*backend_, 1, cols, std::span(in).last(n));
    ASSERT_TRUE(
        backend_->RmsNorm({.x = row.view(), .weight = device_weight.data(), .epsilon = kEpsilon, .out = row.view()})
            .ok());
    EXPECT_TRUE(SameBits(row.Get(), std::span(got).last(n)));
  }
}

TEST_P(RowOps, SiluMulAgreesWithTheOracle) {
  Random random(2);
  for (const auto [rows, cols] : kShapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << cols);
    const size_t n = static_cast<size_t>(cols);
    std::vector<float> values = random.Values(2 * static_cast<size_t>(rows) * n);
    for (size_t i = 0; i < values.size(); i += 3) values[i] *= 8;
    const DeviceMatrix gate_up(*backend_, rows, 2 * cols, values);
    const DeviceMatrix out(*backend_, rows, cols, backend_->activation_dtype());
    ASSERT_TRUE(backend_->SiluMul({.gate_up = gate_up.view(), .out = out.view()}).ok());
    const std::vector<float> in = gate_up.Get();
    const std::vector<float> got = out.Get();
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      for (size_t c = 0; c < n; ++c) {
        const double expected = oracle::Silu(in[2 * r * n + c]) * in[(2 * r + 1) * n + c];
        ASSERT_NEAR(got[r * n + c], expected, GetParam().tolerance * std::abs(expected) + 1e-37)
            << in[2 * r * n + c] << " " << in[(2 * r + 1) * n + c];
      }
    }
  }
}

TEST_P(RowOps, SiluMulHoldsAtTheEnds) {
  const std::vector<float> gates = {0.0f,   -0.0f, 1e-30f, -1e-30f, 20.0f, -20.0f, 86.9f, -86.9f, 87.1f,
                                    -87.1f, 88.8f, -88.8f, 104.0f,  1e4f,  -1e4f,  3e38f, -3e38f, 0.5f};
  const int64_t n = static_cast<int64_t>(gates.size());
  std::vector<float> values = gates;
  values.resize(2 * gates.size(), 1.0f);
  const DeviceMatrix gate_up(*backend_, 1, 2 * n, values);
  const DeviceMatrix out(*backend_, 1, n, backend_->activation_dtype());
  ASSERT_TRUE(backend_->SiluMul({.gate_up = gate_up.view(), .out = out.view()}).ok());
  const std::vector<float> in = gate_up.Get();
  const std::vector<float> got = out.Get();
  for (size_t i = 0; i < gates.size(); ++i) {
    const double expected = oracle::Silu(in[i]);
    EXPECT_NEAR(got[i], expected, GetParam().tolerance * std::abs(expected) + 2e-36) << "at " << gates[i];
  }
}

TEST_P(RowOps, GatherRowsCopiesRowsInAnyOrder) {
  Random random(3);
  constexpr int64_t kCols = 37;
  const DeviceMatrix in(*backend_, 9, kCols, random.Values(9 * kCols));
  const std::vector<int32_t> rows = {8, 0, 0, 3, 8};
  const DeviceArray<int32_t> device_rows(*backend_, rows);
  const DeviceMatrix out(*backend_, 5, kCols, backend_->activation_dtype());
  ASSERT_TRUE(backend_->GatherRows({.in = in.view(), .rows = device_rows.data(), .out = out.view()}).ok());
  const std::vector<float> from = in.Get();
  const std::vector<float> got = out.Get();
  for (size_t r = 0; r < rows.size(); ++r) {
    EXPECT_TRUE(SameBits(std::span(got).subspan(r * kCols, kCols),
                         std::span(from).subspan(static_cast<size_t>(rows[r]) * kCols, kCols)));
  }
}

}  // namespace
}  // namespace lukv::conformance
