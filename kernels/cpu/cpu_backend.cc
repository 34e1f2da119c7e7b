#include "kernels/cpu/cpu_backend.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/embed.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/packed_linear.h"
#include "kernels/cpu/thread_pool.h"

namespace lukv {

int UsableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));  // More cores than cpu_set_t has bits.
}

namespace {

// Every op has run when it returns, so Synchronize has nothing to wait for.
class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, CpuCompute compute, cpu::CpuTarget target)
      : compute_(compute), target_(target), pool_(threads), context_(pool_, target) {}

  std::string name() const override {
    return absl::StrFormat("cpu (%s, %d thread%s, %s activations)", cpu::TargetName(target_), pool_.threads(),
                           pool_.threads() == 1 ? "" : "s", compute_ == CpuCompute::kInt8 ? "int8" : "f32");
  }
  DType activation_dtype() const override { return DType::kF32; }

  absl::StatusOr<DeviceBuffer> Allocate(size_t bytes) override {
    LUKV_ASSIGN_OR_RETURN(cpu::AlignedBuffer buffer, cpu::AllocateAligned(bytes));
    return DeviceBuffer(this, buffer.release(), bytes);
  }
  absl::Status CopyToDevice(void* device, const void* host, size_t bytes) override {
    if (bytes != 0) std::memcpy(device, host, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(void* host, const void* device, size_t bytes) override {
    if (bytes != 0) std::memcpy(host, device, bytes);
    return absl::OkStatus();
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }
  absl::StatusOr<MemoryInfo> Memory() override { return cpu::HostMemory(); }
  size_t WorkspaceBytes(const WorkspaceShape&) const override { return 0; }  // Scratch is small beside what a host has.
  absl::Status Replay(uint64_t, absl::FunctionRef<absl::Status()> ops) override { return ops(); }

  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(std::span<const TensorView> parts) override {
    return cpu::PackLinear(parts, context_);
  }
  absl::StatusOr<std::unique_ptr<EmbeddingWeight>> PackEmbedding(const TensorView& table) override {
    return cpu::PackEmbedding(table);
  }

 protected:
  void Free(void* data, size_t) override { cpu::FreeAligned()(static_cast<std::byte*>(data)); }

  absl::Status DoEmbed(const EmbedArgs& args) override {
    cpu::Embed(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoRmsNorm(const RmsNormArgs& args) override {
    cpu::RmsNorm(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoLinear(const LinearArgs& args) override {
    cpu::Linear(args, compute_, context_);
    return absl::OkStatus();
  }
  absl::Status DoRopeStage(const RopeStageArgs& args) override {
    cpu::RopeStage(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoPrefillAttention(const PrefillAttentionArgs& args) override {
    cpu::PrefillAttention(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoAppend(const AppendArgs& args) override {
    cpu::Append(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoPagedAttention(const PagedAttentionArgs& args) override {
    cpu::PagedAttention(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoCompact(const CompactArgs& args) override {
    cpu::Compact(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoCopyPages(const CopyPagesArgs& args) override {
    cpu::CopyPages(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoSiluMul(const SiluMulArgs& args) override {
    cpu::SiluMul(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoGatherRows(const GatherRowsArgs& args) override {
    cpu::GatherRows(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoScatter(const ScatterArgs& args) override {
    for (int64_t i = 0; i < args.n_updates; ++i) args.to[args.updates[i].index] = args.updates[i].value;
    return absl::OkStatus();
  }
  absl::Status DoSample(const SampleArgs& args) override {
    cpu::Sample(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoQueryMoments(const QueryMomentsArgs& args) override {
    cpu::QueryMoments(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoScoreExpectedAttention(const ScoreExpectedAttentionArgs& args) override {
    cpu::ScoreExpectedAttention(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoScoreSnapKv(const ScoreSnapKvArgs& args) override {
    cpu::ScoreSnapKv(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoScoreKeyDiff(const ScoreKeyDiffArgs& args) override {
    cpu::ScoreKeyDiff(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoScoreKeyNorm(const ScoreKeyNormArgs& args) override {
    cpu::ScoreKeyNorm(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoAdaptiveBudgets(const AdaptiveBudgetsArgs& args) override {
    cpu::AdaptiveBudgets(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoSelectTop(const SelectTopArgs& args) override {
    cpu::SelectTop(args, context_);
    return absl::OkStatus();
  }
  absl::Status DoPagedAttentionWeights(const PagedAttentionWeightsArgs& args) override {
    cpu::PagedAttentionWeights(args, context_);
    return absl::OkStatus();
  }

 private:
  const CpuCompute compute_;
  const cpu::CpuTarget target_;
  ThreadPool pool_;
  cpu::OpContext context_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options) {
  if (options.threads < 0) {
    return absl::InvalidArgumentError(absl::StrFormat("threads is %d; it must be 0 or more", options.threads));
  }
  std::string forced = options.target;
  if (const char* variable = std::getenv("LUKV_CPU_TARGET"); forced.empty() && variable != nullptr) forced = variable;
  LUKV_ASSIGN_OR_RETURN(const cpu::CpuTarget target, cpu::ChooseTarget(forced));
  const int threads = options.threads != 0 ? options.threads : UsableCores();
  return std::make_unique<CpuBackend>(threads, options.compute, target);
}

}  // namespace lukv
