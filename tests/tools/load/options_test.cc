#include "tools/load/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/command_line.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::Pair;

const CommandLine<LoadOptions> kBench("lukv-bench", ParseLoadOptions);

TEST(LoadOptions, AreAskedForByTheServersAddress) {
  const auto wants = [](std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "lukv-bench");
    return WantsLoad(static_cast<int>(arguments.size()), arguments.data());
  };
  EXPECT_TRUE(wants({"--seed", "1", "--server", "x"}));
  EXPECT_TRUE(wants({"--server=x"}));
  EXPECT_FALSE(wants({"--model", "x"}));
  EXPECT_FALSE(wants({}));
}

TEST(LoadOptions, Defaults) {
  const LoadOptions options = kBench.Parsed({"--server", "h:1"});
  EXPECT_EQ(options.connection.server, "h:1");
  EXPECT_EQ(options.concurrency, 8);
  EXPECT_EQ(options.requests, 100);
  EXPECT_EQ(options.duration, absl::ZeroDuration());
  EXPECT_EQ(options.prompt.text(), "512");
  EXPECT_EQ(options.output.text(), "64");
  EXPECT_THAT(options.priorities, ElementsAre(Pair(0, 1)));
}

TEST(LoadOptions, TakeAnOpenLoopAndTrouble) {
  const LoadOptions options = kBench.Parsed({"--server",
                                             "h:1",
                                             "--rate",
                                             "2.5",
                                             "--duration",
                                             "1m30s",
                                             "--prompt-tokens",
                                             "uniform:5:9",
                                             "--output-tokens",
                                             "lognormal:40:1",
                                             "--priority-mix",
                                             "0:9,5:1",
                                             "--cancel-share",
                                             "0.1",
                                             "--deadline-share",
                                             "0.05",
                                             "--deadline",
                                             "0.5",
                                             "--slow-readers-share",
                                             "0.2",
                                             "--kill-every",
                                             "1s",
                                             "--slo-ttft",
                                             "500ms"});
  EXPECT_EQ(options.rate, 2.5);
  EXPECT_EQ(options.concurrency, 0);
  EXPECT_EQ(options.requests, 0);
  EXPECT_EQ(options.duration, absl::Seconds(90));
  EXPECT_EQ(options.prompt.text(), "uniform:5:9");
  EXPECT_EQ(options.output.text(), "lognormal:40:1");
  EXPECT_THAT(options.priorities, ElementsAre(Pair(0, 9), Pair(5, 1)));
  EXPECT_EQ(options.deadline, absl::Milliseconds(500));
  EXPECT_EQ(options.kill_every, absl::Seconds(1));
  EXPECT_EQ(options.slo_ttft, absl::Milliseconds(500));
  EXPECT_EQ(options.slo_itl, std::nullopt);
}

TEST(LoadOptions, RefuseWhatDoesNotGoTogether) {
  const auto refused = [](std::vector<const char*> arguments, const std::string& words) {
    arguments.insert(arguments.begin(), {"--server", "h:1"});
    kBench.ExpectRefused(arguments, words);
  };
  refused({"--rate", "1", "--concurrency", "2"}, "does not go with");
  refused({"--prompt-tokens", "uniform:9:5"}, "--prompt-tokens");
  refused({"--duration", "soon"}, "no duration");
  refused({"--duration", "-1s"}, "no duration");
  refused({"--priority-mix", "0:9,200:1"}, "--priority-mix");
  refused({"--priority-mix", "0"}, "--priority-mix");
  refused({"--cancel-share", "0.6", "--slow-readers-share", "0.6"}, "more than 1");
  refused({"--cancel-share", "1.5"}, "--cancel-share");
  refused({"--shared-share", "0.5"}, "--shared-contexts");
  refused({"--tls", "--kill-every", "1s"}, "--kill-every");
  refused({"--intruder-tokens", "10", "--intruder-at", "1s", "--intruder-before", "2s"}, "--intruder-before");
}

}  // namespace
}  // namespace lukv
