// The instruction sets that the CPU backend is compiled for, and the choice among them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace lukv::cpu {

enum class CpuTarget : uint8_t {
  kAvx2,        // AVX2, FMA, F16C (Highway's AVX2)
  kAvx512,      // and AVX-512 F, BW, DQ, VL (Highway's AVX3)
  kAvx512Vnni,  // and what Ice Lake added, VNNI among it (Highway's AVX3_DL)
  kAvx512Bf16,  // and AVX512_BF16 (Cooper Lake, Sapphire Rapids, Zen 4), which Highway's AVX3_DL does not ask for
};

// "avx2", "avx512", "avx512_vnni", "avx512_bf16".
std::string_view TargetName(CpuTarget target);

// The target called `forced`, or the best one of this CPU if that is empty. FAILED_PRECONDITION, naming what there is,
// when the CPU lacks it, when there is no target of that name, or when the CPU lacks even AVX2.
absl::StatusOr<CpuTarget> ChooseTarget(std::string_view forced);

// Where the target's functions stand in the tables that HWY_EXPORT makes.
size_t DispatchIndex(CpuTarget target);

}  // namespace lukv::cpu

// The function that HWY_EXPORT(FUNC) exported above, for the instruction set of `context` (an OpContext). This takes
// the place of HWY_DYNAMIC_DISPATCH, which knows only one choice per process.
#define LUKV_DISPATCH(context, FUNC) (*HWY_DISPATCH_TABLE(FUNC)[(context).dispatch_index])
