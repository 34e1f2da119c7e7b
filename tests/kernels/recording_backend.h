// A backend without a device: records which bodies ran.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace lukv {

class FakeLinear final : public LinearWeight {
 public:
  int64_t out_features() const override { return 6; }
  int64_t in_features() const override { return 8; }
  size_t memory_bytes() const override { return 0; }
};

class FakeEmbedding final : public EmbeddingWeight {
 public:
  int64_t vocabulary() const override { return 10; }
  int64_t hidden() const override { return 8; }
};

class RecordingBackend final : public Backend {
 public:
  explicit RecordingBackend(DType activation = DType::kF32) : activation_(activation) {}
  std::string name() const override { return "recording"; }
  DType activation_dtype() const override { return activation_; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t) override { return DeviceBuffer(); }
  absl::Status CopyToDevice(void*, const void*, size_t) override { return absl::OkStatus(); }
  absl::Status CopyToHost(void*, const void*, size_t) override { return absl::OkStatus(); }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<MemoryInfo> Memory() override { return MemoryInfo(); }
  size_t WorkspaceBytes(const WorkspaceShape&) const override { return 0; }
  absl::Status Replay(uint64_t, absl::FunctionRef<absl::Status()> ops) override { return ops(); }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView>) override {
    return std::make_unique<FakeLinear>();
  }
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView&) override {
    return std::make_unique<FakeEmbedding>();
  }

  std::vector<std::string> ran;

 protected:
  void Free(void*, size_t) override {}
  absl::Status DoEmbed(const EmbedArgs&) override { return Ran("Embed"); }
  absl::Status DoRmsNorm(const RmsNormArgs&) override { return Ran("RmsNorm"); }
  absl::Status DoLinear(const LinearArgs&) override { return Ran("Linear"); }
  absl::Status DoRopeStage(const RopeStageArgs&) override { return Ran("RopeStage"); }
  absl::Status DoPrefillAttention(const PrefillAttentionArgs&) override { return Ran("PrefillAttention"); }
  absl::Status DoAppend(const AppendArgs&) override { return Ran("Append"); }
  absl::Status DoPagedAttention(const PagedAttentionArgs&) override { return Ran("PagedAttention"); }
  absl::Status DoCompact(const CompactArgs&) override { return Ran("Compact"); }
  absl::Status DoCopyPages(const CopyPagesArgs&) override { return Ran("CopyPages"); }
  absl::Status DoSiluMul(const SiluMulArgs&) override { return Ran("SiluMul"); }
  absl::Status DoGatherRows(const GatherRowsArgs&) override { return Ran("GatherRows"); }
  absl::Status DoScatter(const ScatterArgs&) override { return Ran("Scatter"); }
  absl::Status DoSample(const SampleArgs&) override { return Ran("Sample"); }
  absl::Status DoQueryMoments(const QueryMomentsArgs&) override { return Ran("QueryMoments"); }
  absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs&) override {
    return Ran("ScoreExpectedAttention");
  }
  absl::Status DoScoreSnapKv(const ScoreSnapKvArgs&) override { return Ran("ScoreSnapKv"); }
  absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs&) override { return Ran("ScoreKeyDiff"); }
  absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs&) override { return Ran("ScoreKeyNorm"); }
  absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs&) override { return Ran("AdaptiveBudgets"); }
  absl::Status DoSelectTop(const SelectTopArgs&) override { return Ran("SelectTop"); }
  absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs&) override {
    return Ran("PagedAttentionWeights");
  }

 private:
  absl::Status Ran(const char* op) {
    ran.push_back(op);
    return absl::OkStatus();
  }
  const DType activation_;
};

}  // namespace lukv
