#include "tools/profile/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

namespace lukv {
namespace {

std::variant<ProfileCommand, ExitRequest> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "lukv-profile");
  return ParseProfileCommand(static_cast<int>(arguments.size()), arguments.data());
}

ProfileCommand Parsed(const std::vector<const char*>& arguments) {
  const auto parsed = Parse(arguments);
  const auto* exit = std::get_if<ExitRequest>(&parsed);
  EXPECT_EQ(exit, nullptr) << exit->text;
  return exit == nullptr ? std::get<ProfileCommand>(parsed) : ProfileCommand();
}

void ExpectRefused(const std::vector<const char*>& arguments, const std::string& words) {
  const auto parsed = Parse(arguments);
  const auto* exit = std::get_if<ExitRequest>(&parsed);
  ASSERT_NE(exit, nullptr) << words;
  EXPECT_EQ(exit->code, 2);
  EXPECT_THAT(exit->text, testing::HasSubstr(words));
}

TEST(ProfileOptions, DefaultsAreTheShippedSetAndTheMainScorers) {
  const ProfileCommand command = Parsed({"--model", "m", "--out", "o"});
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
      Parsed({"--model", "m",           "--out", "o",         "--context", "a",
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
  ExpectRefused({"--out", "o"}, "--model is required");
  ExpectRefused({"--model", "m"}, "--out is required");
  ExpectRefused(with({"--contxt", "a"}), "--contxt");
  ExpectRefused(with({"--context", "a"}), "--context and --questions go together: got 1 and 0 files");
  ExpectRefused(with({"--context", "a", "--questions", "b", "c"}), "got 1 and 2 files");
  ExpectRefused(with({"--scorer", "magic"}), "expected_attention, snapkv, keydiff");
  ExpectRefused(with({"--scorer", "snapkv:queries=x"}), "--scorer snapkv:queries=x: ");
  ExpectRefused(with({"--scorer", "snapkv:alpha=0.5"}), "alpha");
  ExpectRefused(with({"--scorer", "keydiff:floors=1"}), "floors belong to a request");
  ExpectRefused(with({"--scorer", "keydiff@0.5"}), "--scorer keydiff@0.5");
  ExpectRefused(with({"--scorer", "snapkv", "snapkv:window=32"}), "--scorer: snapkv is there twice");
  ExpectRefused(with({"--max-new", "1"}), "--max-new");
  ExpectRefused(with({"--temperature", "-1"}), "--temperature");
  ExpectRefused(with({"--threads", "-1"}), "--threads");
  ExpectRefused(with({"--kv-memory", "much"}), "--kv-memory");
}

TEST(ProfileOptions, HelpIsNoError) {
  const auto parsed = Parse({"--help"});
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
