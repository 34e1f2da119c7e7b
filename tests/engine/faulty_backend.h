// A backend that runs everything on another one and, once armed, fails at a chosen call.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "kernels/backend.h"

namespace lukv {

class FaultyBackend final : public Backend {
 public:
  // Calls until the failure, shared with the test; negative: never. Counts ops, copies and allocations.
  using Countdown = std::shared_ptr<std::atomic<int>>;

  FaultyBackend(std::unique_ptr<Backend> inner, Countdown countdown)
      : inner_(std::move(inner)), countdown_(std::move(countdown)) {}

  std::string name() const override { return "faulty " + inner_->name(); }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    if (Fails()) return absl::ResourceExhaustedError("injected");
    return inner_->Allocate(bytes);
  }
  absl::Status CopyToDevice(void* device, const void* host, size_t bytes) override {
    return Fails() ? Injected() : inner_->CopyToDevice(device, host, bytes);
  }
  absl::Status CopyToHost(void* host, const void* device, size_t bytes) override {
    return Fails() ? Injected() : inner_->CopyToHost(host, device, bytes);
  }
  absl::Status Synchronize() override { return Fails() ? Injected() : inner_->Synchronize(); }
  absl::StatusOr<MemoryInfo> Memory() override { return inner_->Memory(); }
  size_t WorkspaceBytes(const WorkspaceShape& shape) const override { return inner_->WorkspaceBytes(shape); }
  absl::Status Replay(uint64_t, absl::FunctionRef<absl::Status()> ops) override { return ops(); }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) override {
    return inner_->PackLinear(parts);
  }
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) override {
    return inner_->PackEmbedding(table);
  }

 protected:
  // Buffers come from the inner backend and go back to it.
  void Free(void*, size_t) override {}

  absl::Status DoEmbed(const EmbedArgs& a) override { return Fails() ? Injected() : inner_->Embed(a); }
  absl::Status DoRmsNorm(const RmsNormArgs& a) override { return Fails() ? Injected() : inner_->RmsNorm(a); }
  absl::Status DoLinear(const LinearArgs& a) override { return Fails() ? Injected() : inner_->Linear(a); }
  absl::Status DoRopeStage(const RopeStageArgs& a) override { return Fails() ? Injected() : inner_->RopeStage(a); }
  absl::Status DoPrefillAttention(const PrefillAttentionArgs& a) override {
    return Fails() ? Injected() : inner_->PrefillAttention(a);
  }
  absl::Status DoAppend(const AppendArgs& a) override { return Fails() ? Injected() : inner_->Append(a); }
  absl::Status DoPagedAttention(const PagedAttentionArgs& a) override {
    return Fails() ? Injected() : inner_->PagedAttention(a);
  }
  absl::Status DoCompact(const CompactArgs& a) override { return Fails() ? Injected() : inner_->Compact(a); }
  absl::Status DoCopyPages(const CopyPagesArgs& a) override { return Fails() ? Injected() : inner_->CopyPages(a); }
  absl::Status DoSiluMul(const SiluMulArgs& a) override { return Fails() ? Injected() : inner_->SiluMul(a); }
  absl::Status DoGatherRows(const GatherRowsArgs& a) override { return Fails() ? Injected() : inner_->GatherRows(a); }
  absl::Status DoScatter(const ScatterArgs& a) override { return Fails() ? Injected() : inner_->Scatter(a); }
  absl::Status DoSample(const SampleArgs& a) override { return Fails() ? Injected() : inner_->Sample(a); }
  absl::Status DoQueryMoments(const QueryMomentsArgs& a) override {
    return Fails() ? Injected() : inner_->QueryMoments(a);
  }
  absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& a) override {
    return Fails() ? Injected() : inner_->ScoreExpectedAttention(a);
  }
  absl::Status DoScoreSnapKv(const ScoreSnapKvArgs& a) override {
    return Fails() ? Injected() : inner_->ScoreSnapKv(a);
  }
  absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs& a) override {
    return Fails() ? Injected() : inner_->ScoreKeyDiff(a);
  }
  absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs& a) override {
    return Fails() ? Injected() : inner_->ScoreKeyNorm(a);
  }
  absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs& a) override {
    return Fails() ? Injected() : inner_->AdaptiveBudgets(a);
  }
  absl::Status DoSelectTop(const SelectTopArgs& a) override { return Fails() ? Injected() : inner_->SelectTop(a); }
  absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs& a) override {
    return Fails() ? Injected() : inner_->PagedAttentionWeights(a);
  }

 private:
  bool Fails() { return countdown_->load() >= 0 && (*countdown_)-- == 0; }
  static absl::Status Injected() { return absl::InternalError("injected"); }

  const std::unique_ptr<Backend> inner_;
  const Countdown countdown_;
};

}  // namespace lukv
