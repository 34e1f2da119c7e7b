#include "tools/eval/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::variant<EvalCommand, ExitRequest> Parse(std::vector<const char*> flags) {
  flags.insert(flags.begin(), {"lukv-eval", "--model", "m.gguf"});
  return ParseEvalCommand(static_cast<int>(flags.size()), flags.data());
}

std::string Error(const std::vector<const char*>& flags) {
  const auto parsed = Parse(flags);
  if (!std::holds_alternative<ExitRequest>(parsed)) return "";
  EXPECT_EQ(std::get<ExitRequest>(parsed).code, 2);
  return std::get<ExitRequest>(parsed).text;
}

TEST(ParseEvalCommand, Defaults) {
  const auto parsed = Parse({});
  ASSERT_TRUE(std::holds_alternative<EvalCommand>(parsed)) << std::get<ExitRequest>(parsed).text;
  const EvalCommand& command = std::get<EvalCommand>(parsed);
  EXPECT_THAT(command.tasks, SizeIs(8));
  EXPECT_THAT(command.lengths, ElementsAre(4096));
  EXPECT_THAT(command.policies, SizeIs(2));
  EXPECT_TRUE(command.policies.front().full);
  EXPECT_EQ(command.style, PromptStyle::kCompletion);
  EXPECT_THAT(command.data, HasSubstr("share/lukv/eval"));
  EXPECT_EQ(command.kv_memory, int64_t{6} << 30);
}

TEST(ParseEvalCommand, TheIssuesFlags) {
  const auto parsed = Parse({"--tasks",     "niah_single_1,nll",
                             "--length",    "1500,3000,1500",
                             "--samples",   "3",
                             "--policies",  "full,lukv+keydiff,uniform+snapkv@0.25:sink=1,window=2",
                             "--ratios",    "0.5,0.8",
                             "--style",     "chat",
                             "--seed",      "7",
                             "--json",      "r.json",
                             "--plot",      "p",
                             "--longbench", "l",
                             "--text",      "t",
                             "--curves",    "c",
                             "--data",      "d",
                             "--threads",   "2",
                             "--kv-memory", "1GiB"});
  ASSERT_TRUE(std::holds_alternative<EvalCommand>(parsed)) << std::get<ExitRequest>(parsed).text;
  const EvalCommand& command = std::get<EvalCommand>(parsed);
  EXPECT_THAT(command.tasks, ElementsAre("niah_single_1", "nll"));
  EXPECT_THAT(command.lengths, ElementsAre(1500, 3000));
  std::vector<std::string> names;
  for (const Policy& policy : command.policies) names.push_back(PolicyName(policy));
  EXPECT_THAT(names,
              ElementsAre("full", "lukv+keydiff@0.5", "lukv+keydiff@0.8", "uniform+snapkv@0.25:sink=1,window=2"));
  EXPECT_EQ(command.style, PromptStyle::kChat);
  EXPECT_EQ(command.samples, 3);
  EXPECT_EQ(command.seed, 7u);
  EXPECT_EQ(command.threads, 2);
  EXPECT_EQ(command.kv_memory, 1 << 30);
  EXPECT_EQ(command.data, "d");
}

TEST(ParseEvalCommand, WrongSettings) {
  EXPECT_THAT(Error({"--tasks", "niah"}), HasSubstr("no task \"niah\""));
  EXPECT_THAT(Error({"--tasks", "trec"}), HasSubstr("--longbench"));
  EXPECT_EQ(Error({"--tasks", "trec", "--longbench", "d"}), "");
  EXPECT_THAT(Error({"--policies", "best+keydiff"}), HasSubstr("best"));
  EXPECT_THAT(Error({"--ratios", "1.5"}), HasSubstr("--ratios"));
  EXPECT_THAT(Error({"--ratios", "1"}), HasSubstr("ratio"));
  EXPECT_THAT(Error({"--length", "12"}), HasSubstr("--length"));
  EXPECT_THAT(Error({"--style", "poem"}), HasSubstr("--style"));
  EXPECT_THAT(Error({"--kv-memory", "much"}), HasSubstr("--kv-memory"));
  EXPECT_THAT(Error({"--no-such-flag"}), HasSubstr("no-such-flag"));
}

TEST(ParseEvalCommand, HelpSaysHowTimesAreTaken) {
  const auto parsed = Parse({"--help"});
  ASSERT_TRUE(std::holds_alternative<ExitRequest>(parsed));
  EXPECT_EQ(std::get<ExitRequest>(parsed).code, 0);
  EXPECT_THAT(std::get<ExitRequest>(parsed).text, HasSubstr("decode_s is measured apart"));
}

}  // namespace
}  // namespace lukv
