#include "kernels/cpu/cpu_features.h"

#include <string>

#include "absl/strings/str_format.h"
#include "hwy/targets.h"

namespace lukv::cpu {
namespace {

struct Target {
  CpuTarget target;
  std::string_view name;
  int64_t highway;
};

// Best last.
constexpr Target kTargets[] = {
    {CpuTarget::kAvx2, "avx2", HWY_AVX2},
    {CpuTarget::kAvx512, "avx512", HWY_AVX3},
    {CpuTarget::kAvx512Vnni, "avx512_vnni", HWY_AVX3_DL},
    {CpuTarget::kAvx512Bf16, "avx512_bf16", HWY_AVX3_DL},
};

const Target& Find(CpuTarget target) { return kTargets[static_cast<size_t>(target)]; }

}  // namespace

std::string_view TargetName(CpuTarget target) { return Find(target).name; }

absl::StatusOr<CpuTarget> ChooseTarget(std::string_view forced) {
  // Highway asks cpuid for every feature of a target (AVX2: FMA, F16C and BMI2 too; AVX3_DL: VNNI) and xgetbv for the
  // operating system's support of the registers.
  const int64_t supported = hwy::SupportedTargets();
  const Target* best = nullptr;
  std::string available;
  for (const Target& target : kTargets) {
    if ((supported & target.highway) == 0) continue;
    if (target.target == CpuTarget::kAvx512Bf16 && !__builtin_cpu_supports("avx512bf16")) continue;
    best = &target;
    available += available.empty() ? "" : ", ";
    available += target.name;
    if (forced == target.name) return target.target;
  }
  if (best == nullptr) return absl::FailedPreconditionError("the CPU backend needs a CPU with AVX2, FMA and F16C");
  if (forced.empty()) return best->target;
  return absl::FailedPreconditionError(
      absl::StrFormat("CPU target \"%s\" is not available; this CPU has: %s", forced, available));
}

size_t DispatchIndex(CpuTarget target) {
  hwy::ChosenTarget chosen;
  chosen.Update(Find(target).highway);
  return chosen.GetIndex();
}

}  // namespace lukv::cpu
