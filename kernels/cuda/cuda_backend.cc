#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/version.h"
#include "kernels/cuda/graphs.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/status.h"

namespace lukv {
namespace {

using cuda::ToStatus;

constexpr size_t kUnpackedLimitBytes = size_t{1} << 30;
constexpr int32_t kMaxHeadDim = 256;
constexpr int kOldestArchitecture = 80;  // bf16 tensor cores and cp.async.

// Everything is issued on one stream. A call that fails leaves the backend usable, unless the device reports an error
// that ends the context (a kernel's fault): then every later call fails with it.
class CudaBackend final : public Backend {
 public:
  CudaBackend(const CudaBackendOptions& options, const cudaDeviceProp& properties)
      : device_(options.device), activations_(options.activations), properties_(properties) {}

  ~CudaBackend() override {
    cudaSetDevice(device_);
    cudaStreamSynchronize(stream_);
    graphs_.Clear();
    unpacked_.reset();
    uploads_.reset();
    workspace_.reset();
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  absl::Status Open() {
    LUKV_RETURN_IF_ERROR(ToStatus(cudaSetDevice(device_), "cudaSetDevice"));
    LUKV_RETURN_IF_ERROR(
        ToStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
    workspace_ = std::make_unique<cuda::Workspace>(stream_);
    uploads_ = std::make_unique<cuda::Uploads>(stream_);
    unpacked_ = std::make_shared<cuda::UnpackedWeights>(kUnpackedLimitBytes);
    context_ = {.stream = stream_,
                .multiprocessors = properties_.multiProcessorCount,
                .shared_bytes = properties_.sharedMemPerBlockOptin,
                .workspace = workspace_.get(),
                .uploads = uploads_.get()};
    return gemm_.Open();
  }

  std::string name() const override {
    return absl::StrFormat("cuda:%d (%s, sm_%d%d, %s activations)", device_, properties_.name, properties_.major,
                           properties_.minor, activations_ == DType::kF32 ? "f32" : "bf16");
  }
  DType activation_dtype() const override { return activations_; }

  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    LUKV_RETURN_IF_ERROR(Use());
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, std::max<size_t>(bytes, 1));
    if (error != cudaSuccess) return ToStatus(error, absl::StrFormat("allocating %d bytes", bytes));
    return DeviceBuffer(this, data, bytes);
  }

  absl::Status CopyToDevice(void* device, const void* host, size_t bytes) override {
    if (bytes == 0) return absl::OkStatus();
    LUKV_RETURN_IF_ERROR(Use());
    // The driver stages a large copy itself; a small one would make the host wait for it.
    constexpr size_t kLarge = size_t{1} << 20;
    return ToStatus(bytes < kLarge ? uploads_->Copy(device, host, bytes)
                                   : cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_),
                    "a copy to the device");
  }

  absl::Status CopyToHost(void* host, const void* device, size_t bytes) override {
    LUKV_RETURN_IF_ERROR(Use());
    if (bytes != 0) {
      LUKV_RETURN_IF_ERROR(
          ToStatus(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "a copy to the host"));
    }
    return Synchronize();
  }

  absl::Status Synchronize() override {
    LUKV_RETURN_IF_ERROR(Use());
    return ToStatus(cudaStreamSynchronize(stream_), "waiting for the device");
  }

  absl::StatusOr<MemoryInfo> Memory() override {
    LUKV_RETURN_IF_ERROR(Use());
    MemoryInfo info;
    LUKV_RETURN_IF_ERROR(ToStatus(cudaMemGetInfo(&info.free_bytes, &info.total_bytes), "cudaMemGetInfo"));
    return info;
  }

  size_t WorkspaceBytes(const WorkspaceShape& shape) const override {
    // The ops share one workspace, as large as the most that one asks for; the leading terms of those that ask for
    // much.
    const int64_t float_bytes = sizeof(float);
    const int64_t window = 64;  // Of SnapKV.
    const int64_t scoring =
        shape.n_heads *
        (shape.context + int64_t{shape.head_dim} * (shape.head_dim + 1) + 2 * window * (shape.context / 256 + 2)) *
        float_bytes;
    const int64_t sampling = shape.sampled_rows * shape.vocabulary * float_bytes;
    const int64_t most =
        std::max({int64_t{cuda::Gemm::kWorkspaceBytes}, cuda::kPagedWorkspaceBytes, scoring, sampling});
    return unpacked_bytes_ + cuda::Uploads::kDeviceBytes + cuda::Workspace::Grown(static_cast<size_t>(most));
  }

  absl::Status Replay(uint64_t key, absl::FunctionRef<absl::Status()> ops) override {
    LUKV_RETURN_IF_ERROR(Use());
    return graphs_.Run(key, ops, context_);
  }

  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) override {
    LUKV_ASSIGN_OR_RETURN(std::unique_ptr<LinearWeight> weight,
                          cuda::PackLinear(*this, parts, activations_, unpacked_));
    if (static_cast<const cuda::PackedLinear&>(*weight).quantised()) {
      const size_t dense = static_cast<size_t>(weight->out_features() * weight->in_features()) *
                           static_cast<size_t>(Traits(activations_).block_bytes);
      unpacked_bytes_ = std::max(dense, std::min(unpacked_bytes_ + dense, kUnpackedLimitBytes));
    }
    return weight;
  }
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) override {
    return cuda::PackEmbedding(*this, table, activations_);
  }

 protected:
  void Free(void* data, size_t) override {
    cudaSetDevice(device_);
    cudaFree(data);
  }

  absl::Status DoEmbed(const EmbedArgs& args) override {
    const auto& table = static_cast<const cuda::PackedEmbedding&>(*args.table);
    LUKV_RETURN_IF_ERROR(Use());
    return ToStatus(cuda::Embed(table.rows(), args.ids, args.out, context_), "Embed");
  }
  absl::Status DoLinear(const LinearArgs& args) override {
    LUKV_RETURN_IF_ERROR(Use());
    return cuda::Linear(args, gemm_, *unpacked_, context_);
  }
  absl::Status DoScatter(const ScatterArgs& args) override {
    return InUploads("Scatter", args.updates, args.n_updates, [&](const ScatterUpdate* updates, int32_t n) {
      return cuda::Scatter(args.to, updates, n, context_);
    });
  }
  absl::Status DoRmsNorm(const RmsNormArgs& args) override { return Run("RmsNorm", cuda::RmsNorm, args); }
  absl::Status DoRopeStage(const RopeStageArgs& args) override {
    LUKV_RETURN_IF_ERROR(CheckHeadDim(args.qkv.head_dim));
    return Run("RopeStage", cuda::RopeStage, args);
  }
  absl::Status DoPrefillAttention(const PrefillAttentionArgs& args) override {
    return Run("PrefillAttention", cuda::PrefillAttention, args);
  }
  absl::Status DoAppend(const AppendArgs& args) override {
    LUKV_RETURN_IF_ERROR(CheckHeadDim(args.qkv.head_dim));
    return Run("Append", cuda::Append, args);
  }
  absl::Status DoPagedAttention(const PagedAttentionArgs& args) override {
    return Run("PagedAttention", cuda::PagedAttention, args);
  }
  absl::Status DoCompact(const CompactArgs& args) override { return Run("Compact", cuda::Compact, args); }
  absl::Status DoCopyPages(const CopyPagesArgs& args) override {
    return InUploads("CopyPages", args.copies, args.n_copies, [&](const PageCopy* copies, int32_t n) {
      return cuda::CopyPages(args.pages, copies, n, context_);
    });
  }
  absl::Status DoSiluMul(const SiluMulArgs& args) override { return Run("SiluMul", cuda::SiluMul, args); }
  absl::Status DoGatherRows(const GatherRowsArgs& args) override { return Run("GatherRows", cuda::GatherRows, args); }
  absl::Status DoSample(const SampleArgs& args) override { return Run("Sample", cuda::Sample, args); }
  absl::Status DoQueryMoments(const QueryMomentsArgs& args) override {
    return Run("QueryMoments", cuda::QueryMoments, args);
  }
  absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) override {
    return Run("ScoreExpectedAttention", cuda::ScoreExpectedAttention, args);
  }
  absl::Status DoScoreSnapKv(const ScoreSnapKvArgs& args) override {
    return Run("ScoreSnapKv", cuda::ScoreSnapKv, args);
  }
  absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs& args) override {
    return Run("ScoreKeyDiff", cuda::ScoreKeyDiff, args);
  }
  absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs& args) override {
    return Run("ScoreKeyNorm", cuda::ScoreKeyNorm, args);
  }
  absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs& args) override {
    return Run("AdaptiveBudgets", cuda::AdaptiveBudgets, args);
  }
  absl::Status DoSelectTop(const SelectTopArgs& args) override { return Run("SelectTop", cuda::SelectTop, args); }
  absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs& args) override {
    return Run("PagedAttentionWeights", cuda::PagedAttentionWeights, args);
  }

 private:
  // The current device belongs to the thread, and any thread may call.
  absl::Status Use() { return ToStatus(cudaSetDevice(device_), "cudaSetDevice"); }

  // Of the ops that fill caches; nothing can be in one that the others could not read.
  static absl::Status CheckHeadDim(int32_t head_dim) {
    if (head_dim <= kMaxHeadDim) return absl::OkStatus();
    return absl::UnimplementedError(
        absl::StrFormat("heads of %d dimensions: the CUDA kernels take up to %d", head_dim, kMaxHeadDim));
  }

  template <typename Args>
  absl::Status Run(absl::string_view op, cudaError_t (*body)(const Args&, const cuda::OpContext&), const Args& args) {
    LUKV_RETURN_IF_ERROR(Use());
    return ToStatus(body(args, context_), op);
  }

  // Host arrays go to the device in parts that the upload buffer has room for.
  template <typename T, typename Body>
  absl::Status InUploads(absl::string_view op, const T* items, int64_t count, Body body) {
    LUKV_RETURN_IF_ERROR(Use());
    constexpr int64_t kMost = static_cast<int64_t>(cuda::Uploads::kMaxBytes / sizeof(T));
    for (int64_t first = 0; first < count; first += kMost) {
      const int64_t n = std::min(count - first, kMost);
      const void* uploaded = nullptr;
      LUKV_RETURN_IF_ERROR(ToStatus(uploads_->Put(items + first, static_cast<size_t>(n) * sizeof(T), &uploaded), op));
      LUKV_RETURN_IF_ERROR(ToStatus(body(static_cast<const T*>(uploaded), static_cast<int32_t>(n)), op));
    }
    return absl::OkStatus();
  }

  const int device_;
  const DType activations_;
  const cudaDeviceProp properties_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<cuda::Workspace> workspace_;
  std::unique_ptr<cuda::Uploads> uploads_;
  std::shared_ptr<cuda::UnpackedWeights> unpacked_;
  size_t unpacked_bytes_ = 0;  // What unpacked_ may come to hold.
  cuda::Gemm gemm_;
  cuda::Graphs graphs_;
  cuda::OpContext context_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess) {
    cudaGetLastError();
    return absl::UnavailableError(absl::StrFormat("no CUDA device: %s", cudaGetErrorString(error)));
  }
  if (options.device < 0 || options.device >= devices) {
    return absl::UnavailableError(absl::StrFormat("no CUDA device %d: there are %d", options.device, devices));
  }
  cudaDeviceProp properties;
  LUKV_RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, options.device), "cudaGetDeviceProperties"));
  if (10 * properties.major + properties.minor < kOldestArchitecture) {
    return absl::FailedPreconditionError(absl::StrFormat("CUDA device %d (%s) is sm_%d%d; sm_%d or newer is needed",
                                                         options.device, properties.name, properties.major,
                                                         properties.minor, kOldestArchitecture));
  }
  auto backend = std::make_unique<CudaBackend>(options, properties);
  LUKV_RETURN_IF_ERROR(backend->Open());
  return backend;
}

}  // namespace lukv

extern "C" __attribute__((visibility("default"))) void lukv_make_cuda_backend(
    const char* version, const lukv::CudaBackendOptions& options,
    absl::StatusOr<std::unique_ptr<lukv::Backend>>* backend) {
  if (std::strcmp(version, lukv::kVersion) != 0) {
    *backend = absl::FailedPreconditionError(
        absl::StrFormat("the CUDA module is of lukv %s, the program of %s", lukv::kVersion, version));
    return;
  }
  *backend = lukv::MakeCudaBackend(options);
}
