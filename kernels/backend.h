// The seam between the engine and a device. A public op checks its arguments once, for all devices (backend.cc), and
// calls the device's body (DoX). The engine sees nothing else of a device.
//
// Ops are issued in order on one implicit stream and may return before they ran; Synchronize waits. An error of a
// body that shows up later is returned by the next op or by Synchronize.
// Thread rule: one thread at a time uses a Backend, but for name().
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/args.h"
#include "kernels/dtype.h"
#include "kernels/evict_args.h"
#include "kernels/sample_args.h"

namespace lukv {

// A weight matrix in the device's own layout, [out_features, in_features].
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  virtual int64_t out_features() const = 0;
  virtual int64_t in_features() const = 0;
  virtual size_t memory_bytes() const = 0;
};

// A table whose rows are looked up, [vocabulary, hidden].
class EmbeddingWeight {
 public:
  virtual ~EmbeddingWeight() = default;
  virtual int64_t vocabulary() const = 0;
  virtual int64_t hidden() const = 0;
};

class Backend;

// Device memory; freed when it goes. Move-only.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Backend* backend, void* data, size_t bytes) : backend_(backend), data_(data), bytes_(bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { Reset(); }

  void Reset();
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Of a device.
struct MemoryInfo {
  size_t total_bytes = 0;
  size_t free_bytes = 0;
  bool host = false;  // It is the host's memory, which others use as well.
};

// The largest ops that a model will ask for.
struct WorkspaceShape {
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  int64_t context = 0;       // Tokens that are scored.
  int64_t sampled_rows = 0;  // At once.
  int64_t vocabulary = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // For people and metrics, e.g. "cpu (avx512_vnni, 2 threads, int8 activations)".
  virtual std::string name() const = 0;
  // The dtype of Matrix arguments other than logits.
  virtual DType activation_dtype() const = 0;

  // 64-byte aligned, uninitialised. RESOURCE_EXHAUSTED with the size when there is not enough.
  virtual absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) = 0;
  virtual absl::Status CopyToDevice(void* device, const void* host, size_t bytes) = 0;
  virtual absl::Status CopyToHost(void* host, const void* device, size_t bytes) = 0;  // Waits for what was issued.
  virtual absl::Status Synchronize() = 0;
  virtual absl::StatusOr<MemoryInfo> Memory() = 0;
  // Bytes that ops of up to this size may come to take for themselves beside what callers allocate, with the weights
  // packed so far.
  virtual size_t WorkspaceBytes(const WorkspaceShape& shape) const = 0;

  // Issues `ops`. They must issue the same work with the same arguments each time that the same key is given, without
  // waiting and without host arrays: a device may record it and play it back later instead of calling them.
  virtual absl::Status Replay(uint64_t key, absl::FunctionRef<absl::Status()> ops) = 0;

  // One linear layer out of tensors stacked by rows (q, k, v; gate, up), each with its own dtype. The views' memory may
  // go after the call. INVALID_ARGUMENT when the column counts differ.
  virtual absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) = 0;
  // The view's memory must outlive the result on the CPU backend (rows are read where they lie).
  virtual absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) = 0;

  // INVALID_ARGUMENT names the op and the argument that is off; nothing is run then.
  absl::Status Embed(const EmbedArgs& args);
  absl::Status RmsNorm(const RmsNormArgs& args);
  absl::Status Linear(const LinearArgs& args);
  absl::Status RopeStage(const RopeStageArgs& args);
  absl::Status PrefillAttention(const PrefillAttentionArgs& args);
  absl::Status Append(const AppendArgs& args);
  absl::Status PagedAttention(const PagedAttentionArgs& args);
  absl::Status Compact(const CompactArgs& args);
  absl::Status CopyPages(const CopyPagesArgs& args);
  absl::Status SiluMul(const SiluMulArgs& args);
  absl::Status GatherRows(const GatherRowsArgs& args);
  absl::Status Scatter(const ScatterArgs& args);
  absl::Status Sample(const SampleArgs& args);

  // Eviction (evict_args.h).
  absl::Status QueryMoments(const QueryMomentsArgs& args);
  absl::Status ScoreExpectedAttention(const ScoreExpectedAttentionArgs& args);
  absl::Status ScoreSnapKv(const ScoreSnapKvArgs& args);
  absl::Status ScoreKeyDiff(const ScoreKeyDiffArgs& args);
  absl::Status ScoreKeyNorm(const ScoreKeyNormArgs& args);
  absl::Status AdaptiveBudgets(const AdaptiveBudgetsArgs& args);
  absl::Status SelectTop(const SelectTopArgs& args);
  absl::Status PagedAttentionWeights(const PagedAttentionWeightsArgs& args);

 protected:
  friend class DeviceBuffer;
  virtual void Free(void* data, size_t bytes) = 0;

  virtual absl::Status DoEmbed(const EmbedArgs& args) = 0;
  virtual absl::Status DoRmsNorm(const RmsNormArgs& args) = 0;
  virtual absl::Status DoLinear(const LinearArgs& args) = 0;
  virtual absl::Status DoRopeStage(const RopeStageArgs& args) = 0;
  virtual absl::Status DoPrefillAttention(const PrefillAttentionArgs& args) = 0;
  virtual absl::Status DoAppend(const AppendArgs& args) = 0;
  virtual absl::Status DoPagedAttention(const PagedAttentionArgs& args) = 0;
  virtual absl::Status DoCompact(const CompactArgs& args) = 0;
  virtual absl::Status DoCopyPages(const CopyPagesArgs& args) = 0;
  virtual absl::Status DoSiluMul(const SiluMulArgs& args) = 0;
  virtual absl::Status DoGatherRows(const GatherRowsArgs& args) = 0;
  virtual absl::Status DoScatter(const ScatterArgs& args) = 0;
  virtual absl::Status DoSample(const SampleArgs& args) = 0;
  virtual absl::Status DoQueryMoments(const QueryMomentsArgs& args) = 0;
  virtual absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) = 0;
  virtual absl::Status DoScoreSnapKv(const ScoreSnapKvArgs& args) = 0;
  virtual absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs& args) = 0;
  virtual absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs& args) = 0;
  virtual absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs& args) = 0;
  virtual absl::Status DoSelectTop(const SelectTopArgs& args) = 0;
  virtual absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs& args) = 0;
};

}  // namespace lukv
