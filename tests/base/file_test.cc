#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace lukv {
namespace {

namespace fs = std::filesystem;

class File : public testing::Test {
 protected:
  File() {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("lukv_file_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
  }
  ~File() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

TEST_F(File, ReadsWhatWasWritten) {
  std::string contents(200000, 'x');
  contents[7] = '\0';
  ASSERT_TRUE(WriteWholeFile(Path("a"), contents).ok());
  const auto read = ReadWholeFile(Path("a"), contents.size());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, contents);
  ASSERT_TRUE(WriteWholeFile(Path("a"), "").ok());
  EXPECT_EQ(ReadWholeFile(Path("a"), 0).value(), "");
}

TEST_F(File, LeavesNothingElseBehind) {
  ASSERT_TRUE(WriteWholeFile(Path("a"), "new").ok());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

// A name that cannot be replaced: the old thing stays, and no half of the new.
TEST_F(File, AFailedWriteChangesNothing) {
  fs::create_directories(folder_ / "taken" / "inside");
  const absl::Status status = WriteWholeFile(Path("taken"), "new");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::StartsWith(Path("taken") + ": cannot write"));
  EXPECT_TRUE(fs::is_directory(folder_ / "taken" / "inside"));
  EXPECT_FALSE(fs::exists(Path("taken.part")));
  EXPECT_EQ(WriteWholeFile(Path("none/a"), "new").code(), absl::StatusCode::kNotFound);
}

TEST_F(File, RefusesWhatItCannotRead) {
  const auto missing = ReadWholeFile(Path("none"), 10);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), testing::StartsWith(Path("none")));
  EXPECT_THAT(std::string(ReadWholeFile(folder_.string(), 10).status().message()), testing::HasSubstr("is a folder"));
  std::ofstream(folder_ / "long") << "12345678901";
  EXPECT_THAT(std::string(ReadWholeFile(Path("long"), 10).status().message()),
              testing::HasSubstr("has more than 10 bytes"));
}

}  // namespace
}  // namespace lukv
