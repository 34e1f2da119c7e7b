#include "kernels/cpu/cpu_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace lukv {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(CpuBackend, NameSaysWhatItIs) {
  const auto int8 = MakeCpuBackend({.threads = 2});
  ASSERT_TRUE(int8.ok());
  EXPECT_THAT((*int8)->name(),
              MatchesRegex("cpu \\((avx2|avx512|avx512_vnni|avx512_bf16), 2 threads, int8 activations\\)"));
  const auto f32 = MakeCpuBackend({.threads = 1, .compute = CpuCompute::kF32, .target = "avx2"});
  ASSERT_TRUE(f32.ok());
  EXPECT_EQ((*f32)->name(), "cpu (avx2, 1 thread, f32 activations)");
  EXPECT_EQ((*f32)->activation_dtype(), DType::kF32);
}

TEST(CpuBackend, TheOptionOverridesTheVariable) {
  ASSERT_EQ(setenv("LUKV_CPU_TARGET", "avx2", 1), 0);
  const auto by_variable = MakeCpuBackend({.threads = 1});
  ASSERT_EQ(setenv("LUKV_CPU_TARGET", "mmx", 1), 0);
  const auto by_option = MakeCpuBackend({.threads = 1, .target = "avx2"});
  const auto refused = MakeCpuBackend({.threads = 1});
  ASSERT_EQ(unsetenv("LUKV_CPU_TARGET"), 0);
  ASSERT_TRUE(by_variable.ok());
  EXPECT_THAT((*by_variable)->name(), StartsWith("cpu (avx2,"));
  EXPECT_TRUE(by_option.ok());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(refused.status()), HasSubstr("\"mmx\""));
  EXPECT_THAT(Message(refused.status()), HasSubstr("avx2"));
}

TEST(CpuBackend, UsesTheCoresItMayRunOn) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const auto backend = MakeCpuBackend({});
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
  ASSERT_TRUE(backend.ok());
  EXPECT_THAT((*backend)->name(), HasSubstr(" 1 thread,"));
}

TEST(CpuBackend, RefusesNegativeThreads) {
  EXPECT_EQ(MakeCpuBackend({.threads = -1}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CpuBackend, AllocatesAlignedAndCopies) {
  const auto backend = MakeCpuBackend({.threads = 1});
  ASSERT_TRUE(backend.ok());
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{1000}, (size_t{5} << 20) + 3}) {
    auto buffer = (*backend)->Allocate(bytes);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->bytes(), bytes);
    ASSERT_NE(buffer->data(), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    std::vector<uint8_t> in(bytes);
    for (size_t i = 0; i < bytes; ++i) in[i] = static_cast<uint8_t>(i * 7);
    std::vector<uint8_t> out(bytes);
    EXPECT_TRUE((*backend)->CopyToDevice(buffer->data(), in.data(), bytes).ok());
    EXPECT_TRUE((*backend)->CopyToHost(out.data(), buffer->data(), bytes).ok());
    EXPECT_TRUE((*backend)->Synchronize().ok());
    EXPECT_EQ(in, out);
  }
}

TEST(CpuBackend, TooMuchMemoryIsAStatus) {
  const auto backend = MakeCpuBackend({.threads = 1});
  ASSERT_TRUE(backend.ok());
  for (const size_t bytes : {size_t{1} << 50, SIZE_MAX}) {
    const auto buffer = (*backend)->Allocate(bytes);
    EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(Message(buffer.status()), HasSubstr(std::to_string(bytes)));
  }
}

}  // namespace
}  // namespace lukv
