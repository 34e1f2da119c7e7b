#include "tools/profile/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "tests/tools/command_line.h"

namespace lukv {
namespace {

const CommandLine<ProfileCommand> kProfile("lukv-profile", ParseProfileCommand);

TEST(ProfileOptions, DefaultsAreTheShippedSetAndTheMainScorers) {
  const ProfileCommand command = kProfile.Parsed({"--model", "m", "--out", "o"});
  ASSERT_EQ(command.contexts.size(), 2u);
  EXPECT_THAT(command.contexts[0], testing::EndsWith("share/lukv/calibration/prose.txt"));
  EXPECT_THAT(command.questions[1], testing::EndsWith("share/lukv/calibration/code.questions"));
  ASSERT_EQ(command.scorers.size(), 3u);
  EXPECT_EQ(command.scorers[1].settings.scorer, Scorer::kSnapKv);
  EXPECT_EQ(command.scorers[1].window, 32);
  EXPECT_EQ(command.scorers[2].window, 1);
  EXPECT_EQ(command.max_new, 64);
  EXPECT_EQ(command.temperature, 0.7f);
  EXPECT_EQ(command.kv_memory, int64_t{2} << 30);
}

TEST(ProfileOptions, TakesWhatIsGiven) {
  const ProfileCommand command =
      kProfile.Parsed({"--model", "m",           "--out", "o",         "--context", "a",
                       "b",       "--questions", "c",     "d",         "--scorer",  "snapkv:queries=64,window=64",
                       "knorm",   "--kv-memory", "1GiB",  "--max-new", "20",        "--temperature",
                       "0",       "--seed",      "7",     "--threads", "3"});
  EXPECT_EQ(command.contexts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(command.questions, (std::vector<std::string>{"c", "d"}));
  ASSERT_EQ(command.scorers.size(), 2u);
  EXPECT_EQ(command.scorers[0].settings.queries, 64);
  EXPECT_EQ(command.scorers[0].window, 64);
  EXPECT_EQ(command.scorers[1].settings.scorer, Scorer::kKeyNorm);
  EXPECT_EQ(command.kv_memory, int64_t{1} << 30);
  EXPECT_EQ(command.max_new, 20);
  EXPECT_EQ(command.temperature, 0.0f);
  EXPECT_EQ(command.seed, 7u);
  EXPECT_EQ(command.threads, 3);
}

TEST(ProfileOptions, WrongSettingsAreRefused) {
  const auto with = [](std::vector<const char*> more) {
    more.insert(more.end(), {"--model", "m", "--out", "o"});
    return more;
  };
  kProfile.ExpectRefused({"--out", "o"}, "--model is required");
  kProfile.ExpectRefused({"--model", "m"}, "--out is required");
  kProfile.ExpectRefused(with({"--contxt", "a"}), "--contxt");
  kProfile.ExpectRefused(with({"--context", "a"}), "--context and --questions go together: got 1 and 0 files");
  kProfile.ExpectRefused(with({"--context", "a", "--questions", "b", "c"}), "got 1 and 2 files");
  kProfile.ExpectRefused(with({"--scorer", "magic"}), "expected_attention, snapkv, keydiff");
  kProfile.ExpectRefused(with({"--scorer", "snapkv:queries=x"}), "--scorer snapkv:queries=x: ");
  kProfile.ExpectRefused(with({"--scorer", "snapkv:alpha=0.5"}), "alpha");
  kProfile.ExpectRefused(with({"--scorer", "keydiff:floors=1"}), "floors belong to a request");
  kProfile.ExpectRefused(with({"--scorer", "keydiff@0.5"}), "--scorer keydiff@0.5");
  kProfile.ExpectRefused(with({"--scorer", "snapkv", "snapkv:window=32"}), "--scorer: snapkv is there twice");
  kProfile.ExpectRefused(with({"--max-new", "1"}), "--max-new");
  kProfile.ExpectRefused(with({"--temperature", "-1"}), "--temperature");
  kProfile.ExpectRefused(with({"--threads", "-1"}), "--threads");
  kProfile.ExpectRefused(with({"--kv-memory", "much"}), "--kv-memory");
}

TEST(ProfileOptions, HelpIsNoError) {
  const auto parsed = kProfile.Parse({"--help"});
  EXPECT_EQ(std::get<ExitRequest>(parsed).code, 0);
  EXPECT_THAT(std::get<ExitRequest>(parsed).text, testing::HasSubstr("--questions"));
}

TEST(ProfileOptions, FileNamesTellScorersApart) {
  EXPECT_EQ(CurveFileName(*ParseProfileScorer("snapkv")), "snapkv");
  EXPECT_EQ(CurveFileName(*ParseProfileScorer("snapkv:window=64,queries=64,kernel=5,pool=average")),
            "snapkv-window-64-queries-64-kernel-5-pool-average");
  EXPECT_EQ(CurveFileName(*ParseProfileScorer("expected_attention:epsilon=0")), "expected_attention-epsilon-0");
}

}  // namespace
}  // namespace lukv
