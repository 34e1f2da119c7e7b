// The suite is registered once per instruction set (LUKV_CPU_TARGET). Where the CPU has it the tests run on it; where
// it has not, the backend must say so instead of running something else.
#include <cstdlib>
#include <string_view>

#include "kernels/cpu/cpu_backend.h"
#include "tests/conformance/fixture.h"

namespace lukv::conformance {
namespace {

bool CpuHas(std::string_view target) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (target == "avx512") return avx512;
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi2");
  if (target == "avx512_vnni") return vnni;
  if (target == "avx512_bf16") return vnni && __builtin_cpu_supports("avx512bf16");
  return avx2;
}

TEST(CpuTarget, IsUsedOrRefused) {
  const char* forced = std::getenv("LUKV_CPU_TARGET");
  const std::string_view target = forced == nullptr ? "" : forced;
  const auto backend = MakeCpuBackend({.threads = 2});
  if (CpuHas(target)) {
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_NE((*backend)->name().find("(" + std::string(target)), std::string::npos) << (*backend)->name();
    EXPECT_FALSE(Backends().empty());
  } else {
    EXPECT_EQ(backend.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(Backends().empty());
  }
}

}  // namespace
}  // namespace lukv::conformance
