// lukv-profile as a user runs it: wrong flags, Ctrl-C, and the same command again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/process.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ProfileProgram : public testing::Test {
 protected:
  ProfileProgram() {
    folder_ = fs::path(testing::TempDir()) / ("lukv_profile_program_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    std::string text;
    for (int i = 0; i < 12; ++i) {
      text += "In house number " + std::to_string(11 * i + 7) + " lives a keeper of bees with " +
              std::to_string(i + 3) + " hives, and behind it a path leads down to the river.\n";
    }
    Write("text", text);
    std::string questions;
    for (int i = 0; i < 12; ++i) {
      questions += "How many hives are there in house number " + std::to_string(11 * i + 7) + "?\tThere are\n";
    }
    Write("questions", questions);
  }
  ~ProfileProgram() override { fs::remove_all(folder_); }

  void Write(const std::string& name, const std::string& contents) { std::ofstream(folder_ / name) << contents; }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  std::vector<std::string> Arguments(const std::string& out) const {
    return {"--model",         DemoModelPath(), "--context", Path("text"), "--questions",
            Path("questions"), "--scorer",      "keydiff",   "--out",      Path(out)};
  }

  fs::path folder_;
};

TEST_F(ProfileProgram, StoppedByCtrlCItGoesOnWhereItWas) {
  Process whole("lukv-profile", Arguments("whole"));
  ASSERT_EQ(whole.Wait(), 0) << whole.Stderr();
  EXPECT_THAT(whole.Stdout(), HasSubstr("keydiff.npy: at 80 % removed the heads keep"));
  EXPECT_FALSE(fs::exists(Path("whole/.lukv-profile")));

  Process stopped("lukv-profile", Arguments("stopped"));
  while (stopped.Running() && stopped.Stderr().find("2 of 12 questions") == std::string::npos) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  stopped.Signal(SIGINT);
  EXPECT_EQ(stopped.Wait(), 130) << stopped.Stderr();
  EXPECT_THAT(stopped.Stderr(), HasSubstr("lukv-profile: stopped; the same command goes on from here"));
  EXPECT_FALSE(fs::exists(Path("stopped/keydiff.npy")));

  Process rest("lukv-profile", Arguments("stopped"));
  ASSERT_EQ(rest.Wait(), 0) << rest.Stderr();
  EXPECT_THAT(rest.Stderr(), HasSubstr("going on with a run that was stopped: "));
  for (const char* extension : {".npy", ".json", ".svg"}) {
    const std::string name = std::string("keydiff") + extension;
    EXPECT_EQ(ReadFileOrEmpty(Path("stopped/" + name)), ReadFileOrEmpty(Path("whole/" + name))) << name;
    EXPECT_NE(ReadFileOrEmpty(Path("whole/" + name)), "") << name;
  }
  EXPECT_FALSE(fs::exists(Path("stopped/.lukv-profile")));
}

TEST_F(ProfileProgram, SaysInOneLineWhatIsWrong) {
  Process unknown("lukv-profile", {"--model", DemoModelPath(), "--out", Path("out"), "--scorer", "magic"});
  EXPECT_EQ(unknown.Wait(), 2);
  EXPECT_THAT(unknown.Stderr(), HasSubstr("lukv-profile: --scorer magic: "));

  std::string words;
  for (int i = 0; i < 9000; ++i) words += "word ";
  Write("text", words);
  Process too_long("lukv-profile", Arguments("out"));
  EXPECT_EQ(too_long.Wait(), 1);
  EXPECT_THAT(too_long.Stderr(), testing::MatchesRegex("lukv-profile: text: [0-9]+ tokens, [0-9]+ of the longest "
                                                       "question and 64 of an answer make [0-9]+; the model's context "
                                                       "is [0-9]+\n"));
}

}  // namespace
}  // namespace lukv
