#include "tools/bench/dry_backend.h"

#include <cstring>
#include <limits>

namespace lukv {
namespace {

constexpr int64_t kBf16Bytes = 2;

class DryLinear final : public LinearWeight {
 public:
  DryLinear(int64_t out_features, int64_t in_features) : out_features_(out_features), in_features_(in_features) {}
  int64_t out_features() const override { return out_features_; }
  int64_t in_features() const override { return in_features_; }
  size_t memory_bytes() const override { return static_cast<size_t>(out_features_ * in_features_ * kBf16Bytes); }

 private:
  const int64_t out_features_;
  const int64_t in_features_;
};

class DryEmbedding final : public EmbeddingWeight {
 public:
  explicit DryEmbedding(const TensorView& table) : vocabulary_(table.rows), hidden_(table.cols) {}
  int64_t vocabulary() const override { return vocabulary_; }
  int64_t hidden() const override { return hidden_; }

 private:
  const int64_t vocabulary_;
  const int64_t hidden_;
};

class DryBackend final : public Backend {
 public:
  std::string name() const override { return "no device"; }
  DType activation_dtype() const override { return DType::kBF16; }
  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    // Addresses that are never looked at.
    constexpr size_t kAlignment = 64;
    void* const data = reinterpret_cast<void*>(next_address_);
    next_address_ += (bytes / kAlignment + 1) * kAlignment;
    return DeviceBuffer(this, data, bytes);
  }
  absl::Status CopyToDevice(void*, const void*, size_t) override { return absl::OkStatus(); }
  absl::Status CopyToHost(void* host, const void*, size_t bytes) override {
    if (bytes > 0) std::memset(host, 0, bytes);
    return absl::OkStatus();
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<MemoryInfo> Memory() override {
    constexpr size_t kAll = std::numeric_limits<size_t>::max();
    return MemoryInfo{.total_bytes = kAll, .free_bytes = kAll};
  }
  size_t WorkspaceBytes(const WorkspaceShape&) const override { return 0; }
  absl::Status Replay(uint64_t, absl::FunctionRef<absl::Status()> ops) override { return ops(); }
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) override {
    int64_t rows = 0;
    for (const TensorView& part : parts) rows += part.rows;
    return std::make_unique<DryLinear>(rows, parts.front().cols);
  }
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) override {
    return std::make_unique<DryEmbedding>(table);
  }

 protected:
  void Free(void*, size_t) override {}
  absl::Status DoEmbed(const EmbedArgs&) override { return absl::OkStatus(); }
  absl::Status DoRmsNorm(const RmsNormArgs&) override { return absl::OkStatus(); }
  absl::Status DoLinear(const LinearArgs&) override { return absl::OkStatus(); }
  absl::Status DoRopeStage(const RopeStageArgs&) override { return absl::OkStatus(); }
  absl::Status DoPrefillAttention(const PrefillAttentionArgs&) override { return absl::OkStatus(); }
  absl::Status DoAppend(const AppendArgs&) override { return absl::OkStatus(); }
  absl::Status DoPagedAttention(const PagedAttentionArgs&) override { return absl::OkStatus(); }
  absl::Status DoCompact(const CompactArgs&) override { return absl::OkStatus(); }
  absl::Status DoCopyPages(const CopyPagesArgs&) override { return absl::OkStatus(); }
  absl::Status DoSiluMul(const SiluMulArgs&) override { return absl::OkStatus(); }
  absl::Status DoGatherRows(const GatherRowsArgs&) override { return absl::OkStatus(); }
  absl::Status DoScatter(const ScatterArgs&) override { return absl::OkStatus(); }
  absl::Status DoSample(const SampleArgs&) override { return absl::OkStatus(); }
  absl::Status DoQueryMoments(const QueryMomentsArgs&) override { return absl::OkStatus(); }
  absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs&) override { return absl::OkStatus(); }
  absl::Status DoScoreSnapKv(const ScoreSnapKvArgs&) override { return absl::OkStatus(); }
  absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs&) override { return absl::OkStatus(); }
  absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs&) override { return absl::OkStatus(); }
  absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs&) override { return absl::OkStatus(); }
  absl::Status DoSelectTop(const SelectTopArgs&) override { return absl::OkStatus(); }
  absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs&) override { return absl::OkStatus(); }

 private:
  size_t next_address_ = 4096;
};

}  // namespace

std::unique_ptr<Backend> MakeDryBackend() { return std::make_unique<DryBackend>(); }

}  // namespace lukv
