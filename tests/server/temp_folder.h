// A folder of one test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>

#include "base/file.h"

namespace lukv {

class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> counter = 0;
    path_ = testing::TempDir() + "/lukv-test-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // Replaces what there was, as a reader that looks for changes expects it. The path.
  std::string Write(const std::string& name, const std::string& contents) const {
    EXPECT_TRUE(WriteWholeFile(Path(name), contents).ok());
    return Path(name);
  }

 private:
  std::string path_;
};

}  // namespace lukv
