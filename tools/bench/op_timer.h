// A backend that runs everything on another one and, while it records, times every op.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cost.h"

namespace lukv {

// Sums of one op's calls.
struct OpSum {
  std::string op;  // Linear layers by their shape: "Linear 4096x14336", out and in features.
  int64_t calls = 0;
  double seconds = 0;
  OpCost cost;
};

// One call of an op.
struct OpEvent {
  std::string op;
  double start = 0;  // Seconds since Start().
  double seconds = 0;
};

struct OpRecord {
  std::vector<OpSum> sums;      // In the order of the first calls.
  std::vector<OpEvent> events;  // In the order of the calls.
};

// What costs need to know of lengths, which lie on the device; who drives the ops knows them. May be empty where no op
// asks.
struct OpLengths {
  // Of all sequences of the running step and all heads of the layer together.
  std::function<int64_t(int32_t layer)> step;
  // What all heads of the layer keep of the slot's context together.
  std::function<int64_t(int32_t slot, int32_t layer)> kept;
  // What all heads of a layer together get from a SelectTop.
  int64_t selected = 0;
};

class OpTimer final : public Backend {
 public:
  explicit OpTimer(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  // From here on every op is timed, from its call until the device is done: with the launch, without what an empty
  // Synchronize takes. Ops are not replayed meanwhile.
  absl::Status Start(OpLengths lengths);
  // Ends it.
  OpRecord Stop();

  std::string name() const override { return inner_->name(); }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override { return inner_->Allocate(bytes); }
  absl::Status CopyToDevice(void* device, const void* host, size_t bytes) override {
    return inner_->CopyToDevice(device, host, bytes);
  }
  absl::Status CopyToHost(void* host, const void* device, size_t bytes) override {
    return inner_->CopyToHost(host, device, bytes);
  }
  absl::Status Synchronize() override { return inner_->Synchronize(); }
  absl::StatusOr<MemoryInfo> Memory() override { return inner_->Memory(); }
  size_t WorkspaceBytes(const WorkspaceShape& shape) const override { return inner_->WorkspaceBytes(shape); }
  absl::Status Replay(uint64_t key, absl::FunctionRef<absl::Status()> ops) override {
    return recording_ ? ops() : inner_->Replay(key, ops);
  }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) override {
    return inner_->PackLinear(parts);
  }
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) override {
    return inner_->PackEmbedding(table);
  }

 protected:
  // Buffers come from the inner backend and go back to it.
  void Free(void*, size_t) override {}

  absl::Status DoEmbed(const EmbedArgs& args) override;
  absl::Status DoRmsNorm(const RmsNormArgs& args) override;
  absl::Status DoLinear(const LinearArgs& args) override;
  absl::Status DoRopeStage(const RopeStageArgs& args) override;
  absl::Status DoPrefillAttention(const PrefillAttentionArgs& args) override;
  absl::Status DoAppend(const AppendArgs& args) override;
  absl::Status DoPagedAttention(const PagedAttentionArgs& args) override;
  absl::Status DoCompact(const CompactArgs& args) override;
  absl::Status DoCopyPages(const CopyPagesArgs& args) override;
  absl::Status DoSiluMul(const SiluMulArgs& args) override;
  absl::Status DoGatherRows(const GatherRowsArgs& args) override;
  absl::Status DoScatter(const ScatterArgs& args) override;
  absl::Status DoSample(const SampleArgs& args) override;
  absl::Status DoQueryMoments(const QueryMomentsArgs& args) override;
  absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) override;
  absl::Status DoScoreSnapKv(const ScoreSnapKvArgs& args) override;
  absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs& args) override;
  absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs& args) override;
  absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs& args) override;
  absl::Status DoSelectTop(const SelectTopArgs& args) override;
  absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs& args) override;

 private:
  // Runs `op` and, while recording, adds it with its cost.
  absl::Status Run(const std::string& name, absl::FunctionRef<OpCost()> cost, absl::FunctionRef<absl::Status()> op);

  const std::unique_ptr<Backend> inner_;
  bool recording_ = false;
  double synchronize_s_ = 0;  // Of a device that is idle.
  OpLengths lengths_;
  std::chrono::steady_clock::time_point start_;
  OpRecord record_;
};

}  // namespace lukv
