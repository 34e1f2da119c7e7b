// For kernels with one bug each: the emulator must find it, whatever order the threads run in, and name the kernel and
// the line. Lines of a kernel that may be named end in the comment "BUG".
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/emulator/control.h"
#include "kernels/emulator/report.h"
#include "tests/emulator/device_array.h"

namespace lukv::emulator {

inline constexpr int kSeeds = 8;

// The marked lines of a kernel in a file of this folder.
inline std::set<int> MarkedLines(const std::string& name, const std::string& kernel) {
  std::ifstream file(LUKV_TEST_DATA "/emulator/" + name);
  std::set<int> lines;
  bool inside = false;
  std::string text;
  for (int line = 1; std::getline(file, text); ++line) {
    if (text.starts_with("__global__")) inside = text.find(" " + kernel + "(") != std::string::npos;
    if (text.starts_with("}")) inside = false;
    if (inside && text.ends_with("// BUG")) lines.insert(line);
  }
  return lines;
}

// Runs the kernel with several orders of its threads. Its report must name a marked line of the file and say `what`.
template <typename... Parameters, typename... Arguments>
void ExpectFound(const std::string& file, const std::string& kernel_name, const ::testing::Matcher<std::string>& what,
                 cudaError_t error, unsigned threads, size_t shared_bytes, void (*kernel)(Parameters...),
                 Arguments... arguments) {
  const std::set<int> marked = MarkedLines(file, kernel_name);
  ASSERT_FALSE(marked.empty()) << kernel_name;
  for (unsigned seed = 1; seed <= kSeeds; ++seed) {
    lukv_emulator_set_seed(seed);
    ASSERT_EQ(cuda::Launch(nullptr, kernel, 1, threads, shared_bytes, arguments...), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), error);
    EXPECT_EQ(cudaDeviceSynchronize(), error) << "the context is lost";
    const Report report = LastReport();
    EXPECT_THAT(report.what, what);
    EXPECT_THAT(report.kernel, ::testing::HasSubstr(kernel_name));
    EXPECT_THAT(lukv_emulator_last_report(), ::testing::HasSubstr(kernel_name));
    ASSERT_FALSE(report.frames.empty()) << report.what;
    EXPECT_EQ(report.frames.front().file, "tests/emulator/" + file);
    EXPECT_THAT(marked, ::testing::Contains(report.frames.front().line)) << report.what;
    lukv_emulator_clear_error();
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
}

template <typename T>
DeviceArray<T> Zeros(size_t n) {
  return DeviceArray<T>(std::vector<T>(n));
}

}  // namespace lukv::emulator

// Of a kernel in namespace lukv::cuda of this file.
#define LUKV_EXPECT_FOUND(kernel, what, error, threads, shared_bytes, ...)                                       \
  ExpectFound(std::string(__FILE__).substr(std::string(__FILE__).rfind('/') + 1), #kernel, what, error, threads, \
              shared_bytes, &cuda::kernel, __VA_ARGS__)
