// The emulated cuBLASLt against products in double.
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/emulator/control.h"
#include "tests/emulator/device_array.h"

namespace lukv::emulator {
namespace {

using ::testing::HasSubstr;

struct Case {
  int64_t m;
  int64_t n;
  int64_t k;
  cudaDataType_t in;
  cudaDataType_t out;
  bool transposed_a = true;
  bool transposed_b = false;
  int64_t padding = 0;  // Between columns.
  float alpha = 1;
  float beta = 0;
};

// A matrix stored by columns, in float and on the device in its type.
class DeviceMatrix {
 public:
  DeviceMatrix(int64_t n_rows, int64_t n_cols, int64_t padding, cudaDataType_t in_type, unsigned seed)
      : rows(n_rows), cols(n_cols), ld(rows + padding), type(in_type), values(static_cast<size_t>(cols * ld)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> halves;
    for (float& value : values) {
      value = normal(random);
      if (type == CUDA_R_16BF) {
        const __nv_bfloat16 rounded = __float2bfloat16_rn(value);
        value = __bfloat162float(rounded);
        halves.push_back(__nv_bfloat16_raw(rounded).x);
      }
    }
    const size_t bytes = values.size() * element_bytes();
    EXPECT_EQ(cudaMalloc(&data, bytes), cudaSuccess);
    const void* const from = halves.empty() ? static_cast<const void*>(values.data()) : halves.data();
    EXPECT_EQ(cudaMemcpy(data, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld),
              CUBLAS_STATUS_SUCCESS);
  }
  ~DeviceMatrix() {
    cublasLtMatrixLayoutDestroy(layout);
    cudaFree(data);
  }
  DeviceMatrix(const DeviceMatrix&) = delete;
  DeviceMatrix& operator=(const DeviceMatrix&) = delete;

  size_t element_bytes() const { return type == CUDA_R_32F ? 4 : 2; }
  double at(int64_t row, int64_t col) const { return values[static_cast<size_t>(row + col * ld)]; }
  std::vector<float> Read() const {
    std::vector<float> floats(values.size());
    if (type == CUDA_R_32F) {
      EXPECT_EQ(cudaMemcpy(floats.data(), data, floats.size() * 4, cudaMemcpyDeviceToHost), cudaSuccess);
      return floats;
    }
    std::vector<__nv_bfloat16> halves(values.size());
    EXPECT_EQ(cudaMemcpy(halves.data(), data, halves.size() * 2, cudaMemcpyDeviceToHost), cudaSuccess);
    for (size_t i = 0; i < halves.size(); ++i) floats[i] = __bfloat162float(halves[i]);
    return floats;
  }

  const int64_t rows;
  const int64_t cols;
  const int64_t ld;
  const cudaDataType_t type;
  std::vector<float> values;
  void* data = nullptr;
  cublasLtMatrixLayout_t layout = nullptr;
};

class CublasLtTest : public ::testing::Test {
 protected:
  CublasLtTest() {
    EXPECT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
    const uint32_t alignment = 2;
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &alignment, sizeof(alignment)),
                CUBLAS_STATUS_SUCCESS);
    }
  }
  ~CublasLtTest() override {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
    EXPECT_EQ(lukv_emulator_live_allocations(), 0);
  }

  void Transpose(bool a, bool b) {
    const cublasOperation_t operations[] = {a ? CUBLAS_OP_T : CUBLAS_OP_N, b ? CUBLAS_OP_T : CUBLAS_OP_N};
    EXPECT_EQ(
        cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &operations[0], sizeof(operations[0])),
        CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(
        cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSB, &operations[1], sizeof(operations[1])),
        CUBLAS_STATUS_SUCCESS);
  }

  cublasStatus_t Choose(const DeviceMatrix& a, const DeviceMatrix& b, const DeviceMatrix& d,
                        cublasLtMatmulAlgo_t* algorithm) {
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a.layout, b.layout, d.layout,
                                                                 d.layout, preference_, 1, &result, &found);
    if (status == CUBLAS_STATUS_SUCCESS) {
      EXPECT_EQ(found, 1);
      *algorithm = result.algo;
    }
    return status;
  }

  cublasStatus_t Multiply(const DeviceMatrix& a, const DeviceMatrix& b, const DeviceMatrix& d, float alpha = 1,
                          float beta = 0, cudaStream_t stream = nullptr) {
    cublasLtMatmulAlgo_t algorithm;
    const cublasStatus_t status = Choose(a, b, d, &algorithm);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return cublasLtMatmul(handle_, operation_, &alpha, a.data, a.layout, b.data, b.layout, &beta, d.data, d.layout,
                          d.data, d.layout, &algorithm, nullptr, 0, stream);
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
};

TEST_F(CublasLtTest, AgreesWithDouble) {
  constexpr cudaDataType_t kHalf = CUDA_R_16BF;
  constexpr cudaDataType_t kFloat = CUDA_R_32F;
  const Case cases[] = {
      {1, 1, 1, kFloat, kFloat},
      {3, 2, 16, kHalf, kHalf},
      {49, 5, 33, kHalf, kFloat},
      {100, 31, 200, kHalf, kHalf},
      {64, 7, 129, kFloat, kFloat},
      {50, 9, 40, kHalf, kHalf, false, false},
      {50, 9, 40, kHalf, kFloat, false, true},
      {50, 9, 40, kFloat, kFloat, true, true},
      {20, 30, 50, kHalf, kHalf, true, false, 3},
      {20, 30, 50, kFloat, kFloat, false, true, 5},
      {20, 30, 50, kHalf, kHalf, true, false, 0, 1, 1},
      {20, 30, 50, kFloat, kFloat, true, false, 2, 0.5f, -2},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::to_string(c.m) + " x " + std::to_string(c.n) + " x " + std::to_string(c.k));
    Transpose(c.transposed_a, c.transposed_b);
    const DeviceMatrix a(c.transposed_a ? c.k : c.m, c.transposed_a ? c.m : c.k, c.padding, c.in, 1);
    const DeviceMatrix b(c.transposed_b ? c.n : c.k, c.transposed_b ? c.k : c.n, c.padding, c.in, 2);
    const DeviceMatrix d(c.m, c.n, c.padding, c.out, 3);
    ASSERT_EQ(Multiply(a, b, d, c.alpha, c.beta), CUBLAS_STATUS_SUCCESS);
    const std::vector<float> got = d.Read();
    for (int64_t col = 0; col < c.n; ++col) {
      for (int64_t row = 0; row < d.ld; ++row) {
        const size_t at = static_cast<size_t>(row + col * d.ld);
        if (row >= c.m) {
          EXPECT_EQ(got[at], d.values[at]) << "between columns";
          continue;
        }
        double sum = 0;
        double size = 0;
        for (int64_t k = 0; k < c.k; ++k) {
          const double product =
              (c.transposed_a ? a.at(k, row) : a.at(row, k)) * (c.transposed_b ? b.at(col, k) : b.at(k, col));
          sum += product;
          size += std::abs(product);
        }
        const double expected = c.alpha * sum + c.beta * d.at(row, col);
        const double rounding = c.out == kHalf ? std::abs(expected) / 256 : 0;
        EXPECT_NEAR(got[at], expected, 1e-6 * (size + std::abs(expected)) + rounding) << row << ", " << col;
      }
    }
  }
}

// The same bits whatever else is multiplied along.
TEST_F(CublasLtTest, AColumnDoesNotDependOnOthers) {
  Transpose(true, false);
  for (const cudaDataType_t type : {CUDA_R_16BF, CUDA_R_32F}) {
    const DeviceMatrix a(77, 130, 0, type, 1);
    const DeviceMatrix many(77, 9, 0, type, 2);
    const DeviceMatrix one(77, 1, 0, type, 2);  // Its values are the first of `many`.
    const DeviceMatrix out_many(130, 9, 0, CUDA_R_32F, 3);
    const DeviceMatrix out_one(130, 1, 0, CUDA_R_32F, 4);
    ASSERT_EQ(Multiply(a, many, out_many), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(Multiply(a, one, out_one), CUBLAS_STATUS_SUCCESS);
    const std::vector<float> first = out_many.Read();
    EXPECT_EQ(std::vector<float>(first.begin(), first.begin() + 130), out_one.Read());
  }
}

TEST_F(CublasLtTest, RefusesWhatDoesNotFit) {
  Transpose(true, false);
  const DeviceMatrix a(16, 8, 0, CUDA_R_16BF, 1);
  const DeviceMatrix b(16, 4, 0, CUDA_R_16BF, 2);
  const DeviceMatrix d(8, 4, 0, CUDA_R_32F, 3);
  EXPECT_EQ(Multiply(a, DeviceMatrix(15, 4, 0, CUDA_R_16BF, 2), d), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(Multiply(a, DeviceMatrix(16, 4, 0, CUDA_R_32F, 2), d), CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(Multiply(a, b, DeviceMatrix(8, 5, 0, CUDA_R_32F, 2)), CUBLAS_STATUS_NOT_SUPPORTED);
  // An algorithm that was chosen for other alignments or types.
  cublasLtMatmulAlgo_t algorithm;
  const uint32_t alignment = 16;
  ASSERT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment,
                                                 sizeof(alignment)),
            CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(Choose(a, b, d, &algorithm), CUBLAS_STATUS_SUCCESS);
  const float one = 1;
  const float zero = 0;
  const DeviceMatrix odd(16, 4, 1, CUDA_R_16BF, 2);
  const DeviceMatrix half(8, 4, 0, CUDA_R_16BF, 2);
  const auto run = [&](const DeviceMatrix& second, const DeviceMatrix& out, void* data) {
    return cublasLtMatmul(handle_, operation_, &one, a.data, a.layout, second.data, second.layout, &zero, data,
                          out.layout, data, out.layout, &algorithm, nullptr, 0, nullptr);
  };
  EXPECT_EQ(run(odd, d, d.data), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(b, half, half.data), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(b, d, d.data), CUBLAS_STATUS_SUCCESS);
  // Memory that is not the device's, or too little of it.
  EXPECT_EQ(run(b, d, static_cast<char*>(d.data) + 16), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_THAT(lukv_emulator_last_report(), HasSubstr("cublasLtMatmul: D is not"));
  EXPECT_EQ(run(b, d, d.data), CUBLAS_STATUS_EXECUTION_FAILED);
  lukv_emulator_clear_error();
}

TEST_F(CublasLtTest, RunsWhenTheStreamDoes) {
  Transpose(true, false);
  const DeviceMatrix a(16, 8, 0, CUDA_R_32F, 1);
  const DeviceMatrix b(16, 4, 0, CUDA_R_32F, 2);
  const DeviceMatrix d(8, 4, 0, CUDA_R_32F, 3);
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(Multiply(a, b, d, 1, 1, stream), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_EQ(d.Read(), d.values) << "only recorded";
  for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  double sum = 0;
  for (int64_t k = 0; k < 16; ++k) sum += a.at(k, 0) * b.at(k, 0);
  EXPECT_NEAR(d.Read()[0], d.values[0] + 2 * sum, 1e-5);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace lukv::emulator
