// The part of cuBLASLt that the backend uses: products of matrices stored by columns, bf16 or float, without epilogue.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/emulator/matmul.h"
#include "kernels/emulator/memory.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/runtime.h"

struct cublasLtContext {};

namespace lukv::emulator {
namespace {

struct MatmulDescription {
  cublasOperation_t a = CUBLAS_OP_N;
  cublasOperation_t b = CUBLAS_OP_N;
};

struct Layout {
  cudaDataType_t type = CUDA_R_32F;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;

  size_t element_bytes() const { return type == CUDA_R_32F ? sizeof(float) : sizeof(uint16_t); }
  size_t bytes() const { return static_cast<size_t>((cols - 1) * ld + rows) * element_bytes(); }
};

struct Preference {
  uint64_t max_workspace_bytes = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignments[4] = {256, 256, 256, 256};  // Of A, B, C and D: cuBLASLt's defaults.
};

// What an algorithm may be used for: what it was chosen for, with other numbers of rows and columns.
struct Algorithm {
  uint32_t magic;
  uint32_t alignments[4];
  int32_t types[4];
  int32_t operations[2];
  uint32_t columns;  // Of the product it was chosen for.
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));
constexpr uint32_t kMagic = 0x4c754b56;
// So much of the workspace is overwritten, so that nobody comes to rely on what lies there.
constexpr size_t kWorkspaceBytes = 16 * 1024;

template <typename T, typename Handle>
T* As(Handle handle) {
  return reinterpret_cast<T*>(handle);
}

template <typename Body>
cublasStatus_t CublasCall(Body&& body, cublasStatus_t injected = CUBLAS_STATUS_INTERNAL_ERROR) {
  Runtime& runtime = Runtime::Get();
  const std::lock_guard lock(runtime.mutex());
  if (runtime.context_error() != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (runtime.FailsNow()) return injected;
  return body(runtime);
}

template <typename T, typename Handle, typename... Members>
cublasStatus_t Make(Handle* handle, Members... members) {
  return CublasCall(
      [&](Runtime& runtime) {
        runtime.CountObject(1);
        *handle = As<std::remove_pointer_t<Handle>>(new T{members...});
        return CUBLAS_STATUS_SUCCESS;
      },
      CUBLAS_STATUS_ALLOC_FAILED);
}

template <typename T, typename Handle>
cublasStatus_t Destroy(Handle handle) {
  const std::lock_guard lock(Runtime::Get().mutex());
  Runtime::Get().CountObject(-1);
  delete As<T>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t Set(T& member, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&member, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t Invalid(const std::string& why) {
  Refuse("cublasLtMatmul", why, cudaErrorInvalidValue);
  return CUBLAS_STATUS_INVALID_VALUE;
}

// The descriptions fit each other and are of a kind that is emulated (and that cuBLASLt knows).
bool Supported(const MatmulDescription& operation, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const bool out_type = d.type == CUDA_R_32F || (d.type == CUDA_R_16BF && a.type == CUDA_R_16BF);
  const int64_t m = operation.a == CUBLAS_OP_N ? a.rows : a.cols;
  const int64_t k = operation.a == CUBLAS_OP_N ? a.cols : a.rows;
  const bool b_fits = operation.b == CUBLAS_OP_N ? b.rows == k && b.cols == d.cols : b.cols == k && b.rows == d.cols;
  return (a.type == CUDA_R_32F || a.type == CUDA_R_16BF) && b.type == a.type && c.type == d.type && out_type &&
         b_fits && m == d.rows && c.rows == d.rows && c.cols == d.cols && m > 0 && k > 0 && d.cols > 0;
}

// The largest power of two up to 256 that divides the address and the stride between columns.
uint32_t AlignmentOf(const void* data, const Layout& layout) {
  const uintptr_t bits =
      reinterpret_cast<uintptr_t>(data) | (static_cast<uintptr_t>(layout.ld) * layout.element_bytes()) | uintptr_t{256};
  return static_cast<uint32_t>(bits & (~bits + 1));
}

Algorithm Describe(const MatmulDescription& operation, const Layout* const (&layouts)[4],
                   const uint32_t (&alignments)[4]) {
  Algorithm algorithm = {.magic = kMagic, .operations = {operation.a, operation.b}, .columns = 0};
  for (int i = 0; i < 4; ++i) {
    algorithm.alignments[i] = alignments[i];
    algorithm.types[i] = layouts[i]->type;
  }
  return algorithm;
}

cudaError_t RunProduct(const Product& product, const void* const (&data)[4], const size_t (&bytes)[4]) {
  constexpr const char* kNames[] = {"A", "B", "C", "D"};
  for (int i = 0; i < 4; ++i) {
    if ((i == 2 && product.beta == 0) || DeviceMemory::Get().Holds(data[i], bytes[i])) continue;
    MakeReport({.what = std::string("cublasLtMatmul: ") + kNames[i] + " is not within an allocation of the device",
                .memory = true});
    return cudaErrorIllegalAddress;
  }
  Multiply(product);
  return cudaSuccess;
}

}  // namespace
}  // namespace lukv::emulator

using lukv::emulator::Algorithm;
using lukv::emulator::As;
using lukv::emulator::CublasCall;
using lukv::emulator::DeviceMemory;
using lukv::emulator::Invalid;
using lukv::emulator::Layout;
using lukv::emulator::MatmulDescription;
using lukv::emulator::Preference;
using lukv::emulator::Product;
using lukv::emulator::Runtime;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return lukv::emulator::Make<cublasLtContext>(handle); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return lukv::emulator::Destroy<cublasLtContext>(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  return lukv::emulator::Make<MatmulDescription>(operation);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return lukv::emulator::Destroy<MatmulDescription>(operation);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return CublasCall([&](Runtime&) {
    auto& to = *As<MatmulDescription>(operation);
    switch (attribute) {
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return lukv::emulator::Set(to.a, value, bytes);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return lukv::emulator::Set(to.b, value, bytes);
      default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
  });
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  if (ld < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return lukv::emulator::Make<Layout>(layout, type, static_cast<int64_t>(rows), static_cast<int64_t>(cols), ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return lukv::emulator::Destroy<Layout>(layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return lukv::emulator::Make<Preference>(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return lukv::emulator::Destroy<Preference>(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  return CublasCall([&](Runtime&) {
    auto& to = *As<Preference>(preference);
    switch (attribute) {
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return lukv::emulator::Set(to.max_workspace_bytes, value, bytes);
      case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return lukv::emulator::Set(to.reductions, value, bytes);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return lukv::emulator::Set(to.alignments[0], value, bytes);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return lukv::emulator::Set(to.alignments[1], value, bytes);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return lukv::emulator::Set(to.alignments[2], value, bytes);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return lukv::emulator::Set(to.alignments[3], value, bytes);
      default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
  });
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  return CublasCall([&](Runtime&) {
    *found = 0;
    const auto& description = *As<MatmulDescription>(operation);
    const Layout* const layouts[] = {As<Layout>(a), As<Layout>(b), As<Layout>(c), As<Layout>(d)};
    if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (!lukv::emulator::Supported(description, *layouts[0], *layouts[1], *layouts[2], *layouts[3])) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    Algorithm algorithm = lukv::emulator::Describe(description, layouts, As<Preference>(preference)->alignments);
    algorithm.columns = static_cast<uint32_t>(layouts[3]->cols);
    results[0] = {};
    std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
    results[0].workspaceSize =
        std::min<uint64_t>(As<Preference>(preference)->max_workspace_bytes, lukv::emulator::kWorkspaceBytes);
    results[0].wavesCount = 1;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
  });
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  return CublasCall([&](Runtime& runtime) {
    CUstream_st* const on = runtime.Find(stream);
    if (on == nullptr) return Invalid("unknown stream");
    const auto& description = *As<MatmulDescription>(operation);
    const Layout* const layouts[] = {As<Layout>(a_layout), As<Layout>(b_layout), As<Layout>(c_layout),
                                     As<Layout>(d_layout)};
    if (!lukv::emulator::Supported(description, *layouts[0], *layouts[1], *layouts[2], *layouts[3])) {
      return Invalid("shapes or types do not fit");
    }
    if (algo == nullptr) return Invalid("no algorithm: not emulated");
    const void* const data[] = {a, b, c, d};
    Algorithm chosen;
    std::memcpy(&chosen, algo, sizeof(chosen));
    if (runtime.narrow_algorithms() && chosen.columns != static_cast<uint32_t>(layouts[3]->cols)) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    Algorithm needed = lukv::emulator::Describe(description, layouts, chosen.alignments);
    needed.columns = chosen.columns;
    if (std::memcmp(&chosen, &needed, sizeof(needed)) != 0) return Invalid("an algorithm for another kind of product");
    size_t bytes[4];
    for (int i = 0; i < 4; ++i) {
      if (lukv::emulator::AlignmentOf(data[i], *layouts[i]) < chosen.alignments[i]) {
        return Invalid("an algorithm for other alignments");
      }
      bytes[i] = layouts[i]->bytes();
    }
    const size_t overwritten = std::min(workspace_bytes, lukv::emulator::kWorkspaceBytes);
    const auto operand = [](const void* matrix, const Layout& layout, cublasOperation_t transposed) {
      return lukv::emulator::Operand{
          .data = matrix, .ld = layout.ld, .bf16 = layout.type == CUDA_R_16BF, .transposed = transposed != CUBLAS_OP_N};
    };
    const Product product = {.m = layouts[3]->rows,
                             .n = layouts[3]->cols,
                             .k = description.a == CUBLAS_OP_N ? layouts[0]->cols : layouts[0]->rows,
                             .a = operand(a, *layouts[0], description.a),
                             .b = operand(b, *layouts[1], description.b),
                             .alpha = *static_cast<const float*>(alpha),
                             .beta = *static_cast<const float*>(beta),
                             .c = c,
                             .ldc = layouts[2]->ld,
                             .d = d,
                             .ldd = layouts[3]->ld,
                             .out_bf16 = layouts[3]->type == CUDA_R_16BF};
    const cudaError_t error = runtime.Issue(on, [=] {
      if (overwritten > 0) {
        if (!DeviceMemory::Get().Holds(workspace, workspace_bytes)) {
          lukv::emulator::MakeReport({.what = "cublasLtMatmul: the workspace is not the device's", .memory = true});
          return cudaErrorIllegalAddress;
        }
        std::memset(workspace, 0xff, overwritten);
      }
      return lukv::emulator::RunProduct(product, data, bytes);
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
  });
}
