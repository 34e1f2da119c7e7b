// A device without arithmetic: every op moves what the real one moves, from where to where its arguments say, but a row
// of numbers is one 64-bit hash, which lies in the row's first eight bytes. So each chosen token depends on every
// entry, position, page and table word that a real one would depend on, and a wrong one shows. Each op makes a virtual
// clock go on by the time that a real device is thought to take.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cost.h"
#include "tools/simulate/virtual_clock.h"

namespace lukv {

// An op takes per_op + max(flops / flops_per_second, bytes / bytes_per_second), times a factor of [1, 1 + jitter] that
// depends on `seed` and the number of the op.
struct ModelledTimes {
  double flops_per_second = 1e8;
  double bytes_per_second = 4e6;
  absl::Duration per_op = absl::Microseconds(2);
  double jitter = 0;
  uint64_t seed = 0;
};

// Calls that fail. An op that fails does nothing of its work, as a device that gives up.
struct ModelledFaults {
  // Asked once for every op, copy, allocation and wait, by its number from 0; null: none fails.
  std::function<bool(int64_t call)> fails;
};

class ModelledBackend : public Backend {
 public:
  // `clock` must outlive the backend.
  ModelledBackend(const ModelledTimes& times, ModelledFaults faults, VirtualClock& clock);
  // Faults of allocations that would make a model fail to load help nobody: they begin with this call.
  void ArmFaults() { armed_ = true; }
  int64_t faults_injected() const { return faults_injected_; }
  int64_t calls() const { return calls_; }

  std::string name() const override { return "modelled"; }
  DType activation_dtype() const override { return DType::kF32; }
  // What is allocated holds other numbers each time, so that nobody gets away with reading what was never written.
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override;
  absl::Status CopyToDevice(void* device, const void* host, size_t bytes) override;
  absl::Status CopyToHost(void* host, const void* device, size_t bytes) override;
  absl::Status Synchronize() override;
  absl::StatusOr<MemoryInfo> Memory() override;
  size_t WorkspaceBytes(const WorkspaceShape&) const override { return 0; }
  absl::Status Replay(uint64_t key, absl::FunctionRef<absl::Status()> ops) override;
  // Of the values only a hash is kept.
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) override;
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) override;

 protected:
  void Free(void* data, size_t bytes) override;

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
  // Of every call: its time passes, and it may fail.
  absl::Status Begin(const OpCost& cost);

  const double seconds_per_flop_;
  const double seconds_per_byte_;
  const ModelledTimes times_;
  const ModelledFaults faults_;
  VirtualClock& clock_;
  bool armed_ = false;
  int64_t calls_ = 0;
  int64_t faults_injected_ = 0;
  uint8_t fill_ = 0;
};

}  // namespace lukv
