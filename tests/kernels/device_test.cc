#include "kernels/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace lukv {
namespace {

using ::testing::HasSubstr;

class Device : public testing::Test {
 protected:
  // The module that programs would open.
  static void UseModule(const std::string& path) { setenv("LUKV_CUDA_LIBRARY", path.c_str(), 1); }
  void SetUp() override {
    if (const char* path = std::getenv("LUKV_CUDA_LIBRARY"); path != nullptr) before_ = path;
  }
  void TearDown() override { setenv("LUKV_CUDA_LIBRARY", before_.c_str(), 1); }

 private:
  std::string before_;
};

TEST_F(Device, NamesAreChecked) {
  for (const char* name : {"cpu", "cuda", "cuda:0", "cuda:17", "auto"}) EXPECT_TRUE(CheckDeviceName(name).ok()) << name;
  for (const char* name : {"", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1 2", "cuda0", "CPU", "cpu:0"}) {
    EXPECT_EQ(CheckDeviceName(name).code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(MakeBackend({.device = name}).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST_F(Device, WithoutAModuleCudaIsRefusedAndAutoIsTheCpu) {
  UseModule("/nowhere/liblukv_cuda.so");
  const auto refused = MakeBackend({.device = "cuda"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("/nowhere/liblukv_cuda.so"));
  std::string reason;
  const auto fallback = MakeBackend({.device = "auto"}, &reason);
  ASSERT_TRUE(fallback.ok()) << fallback.status();
  EXPECT_THAT((*fallback)->name(), HasSubstr("cpu"));
  EXPECT_THAT(reason, HasSubstr("no CUDA module"));
}

TEST_F(Device, AFileThatIsNoModuleIsRefused) {
  const std::string path = testing::TempDir() + "/no_module.so";
  std::ofstream(path) << "not a library";
  UseModule(path);
  const auto refused = MakeBackend({.device = "cuda:0"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("cannot be loaded"));
}

TEST_F(Device, TheCpuIsNeverGivenUpFor) {
  UseModule("/nowhere/liblukv_cuda.so");
  std::string reason;
  ASSERT_TRUE(MakeBackend({.device = "cpu"}, &reason).ok());
  EXPECT_EQ(reason, "");
}

}  // namespace
}  // namespace lukv
