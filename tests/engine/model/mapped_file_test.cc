#include "engine/model/mapped_file.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>

#include "base/file.h"
#include "tests/engine/model/status_matchers.h"

namespace lukv {
namespace {

// KiB of the mapping that begins at `start` which this process has in memory (/proc/self/smaps); -1: no such mapping.
int64_t ResidentKiB(const void* start) {
  char line_start[32];
  std::snprintf(line_start, sizeof(line_start), "%lx-", reinterpret_cast<uintptr_t>(start));
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with(line_start)) inside = true;
    if (inside && line.starts_with("Rss:")) return std::stoll(line.substr(4));
  }
  return -1;
}

TEST(MappedFile, LetsGoOfWhatWasReadAndReadsItAgain) {
  const std::string path = testing::TempDir() + "/mapped";
  std::string contents(size_t{1} << 20, 'a');
  contents.back() = 'z';
  ASSERT_TRUE(WriteWholeFile(path, contents).ok());
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->contents(), contents);
  EXPECT_EQ(ResidentKiB((*file)->contents().data()), 1024);
  (*file)->LetGo();
  EXPECT_EQ(ResidentKiB((*file)->contents().data()), 0);
  EXPECT_EQ((*file)->contents(), contents);
}

TEST(MappedFile, AnEmptyFileIsOne) {
  const std::string path = testing::TempDir() + "/empty";
  ASSERT_TRUE(WriteWholeFile(path, "").ok());
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->contents(), "");
  (*file)->LetGo();
}

TEST(MappedFile, OtherThingsAreErrorsThatBeginWithThePath) {
  ExpectStatus(MappedFile::Open("/nowhere/file").status(), absl::StatusCode::kNotFound, "/nowhere/file");
  ExpectStatus(MappedFile::Open("/proc").status(), absl::StatusCode::kInvalidArgument, "/proc");
}

}  // namespace
}  // namespace lukv
