#include "server/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace lukv {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

std::variant<ServerConfig, ExitRequest> Parse(std::vector<std::string> arguments) {
  std::vector<const char*> argv = {"lukv-server"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ParseServerConfig(static_cast<int>(argv.size()), argv.data());
}

ServerConfig Config(std::vector<std::string> arguments) {
  const auto parsed = Parse(std::move(arguments));
  if (const auto* exit = std::get_if<ExitRequest>(&parsed)) {
    ADD_FAILURE() << exit->text;
    return {};
  }
  return std::get<ServerConfig>(parsed);
}

ExitRequest ExitOf(std::vector<std::string> arguments) {
  const auto parsed = Parse(std::move(arguments));
  if (const auto* exit = std::get_if<ExitRequest>(&parsed)) return *exit;
  ADD_FAILURE() << "no exit";
  return {};
}

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override { path_ = testing::TempDir() + "/lukv-config-" + std::to_string(getpid()) + ".toml"; }
  void TearDown() override {
    unlink(path_.c_str());
    for (const char* name : {"LUKV_MAX_CONTEXT", "LUKV_KV_MEMORY", "LUKV_INSECURE_LISTEN_ANYWHERE"}) unsetenv(name);
  }
  std::string File(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }

 private:
  std::string path_;
};

TEST_F(ConfigTest, HasDefaults) {
  const ServerConfig config = Config({"--model", "/models/Tiny.gguf"});
  EXPECT_EQ(config.model.path, "/models/Tiny.gguf");
  EXPECT_EQ(config.model.name, "Tiny");
  EXPECT_EQ(config.network.listen, "127.0.0.1:50051");
  EXPECT_EQ(config.network.metrics_listen, "127.0.0.1:9400");
  EXPECT_EQ(config.network.drain_timeout, absl::Seconds(30));
  EXPECT_EQ(config.network.max_message_bytes, 256 << 20);
  EXPECT_EQ(config.engine.kv_memory_bytes, 0);
  EXPECT_EQ(config.device.device, "auto");
  EXPECT_EQ(config.engine.kv_dtype, DType::kBF16);
  EXPECT_EQ(config.device.cpu.compute, CpuCompute::kInt8);
  EXPECT_EQ(config.log_level, LogLevel::kInfo);
  EXPECT_EQ(config.eviction.policy, "auto");
  EXPECT_EQ(config.eviction.tail, 128);
  EXPECT_EQ(config.engine.min_evicted_context, 256);
  EXPECT_EQ(config.engine.curves, "");
  EXPECT_THAT(config.engine.curves_root, EndsWith("/share/lukv/profiles"));
}

TEST_F(ConfigTest, NamesAFolderModelByTheFolder) {
  EXPECT_EQ(Config({"--model", "/models/Qwen3-0.6B/"}).model.name, "Qwen3-0.6B");
  EXPECT_EQ(Config({"--model", "/models/Qwen3-0.6B"}).model.name, "Qwen3-0.6B");
  EXPECT_EQ(Config({"--model", "/m.gguf", "--model-name", "mine"}).model.name, "mine");
}

TEST_F(ConfigTest, TakesFlags) {
  const ServerConfig config = Config({"--model",
                                      "m",
                                      "--listen",
                                      "127.0.0.1:0",
                                      "--metrics-listen",
                                      "",
                                      "--threads",
                                      "3",
                                      "--kv-memory",
                                      "1500MB",
                                      "--kv-dtype",
                                      "f32",
                                      "--compute",
                                      "f32",
                                      "--max-sequences",
                                      "5",
                                      "--drain-timeout",
                                      "1m30s",
                                      "--max-message-size",
                                      "1MiB",
                                      "--log-level",
                                      "error",
                                      "--page-tokens",
                                      "16",
                                      "--prefill-chunk",
                                      "128",
                                      "--max-queued-requests",
                                      "9",
                                      "--ready-file",
                                      "/tmp/r",
                                      "--eviction",
                                      "adakv+snapkv@0.5:sink=2",
                                      "--curves",
                                      "/tmp/c",
                                      "--tail",
                                      "33",
                                      "--chat-tail",
                                      "44",
                                      "--min-evicted-context",
                                      "55"});
  EXPECT_EQ(config.network.listen, "127.0.0.1:0");
  EXPECT_EQ(config.network.metrics_listen, "");
  EXPECT_EQ(config.device.cpu.threads, 3);
  EXPECT_EQ(config.engine.kv_memory_bytes, 1'500'000'000);
  EXPECT_EQ(config.engine.kv_dtype, DType::kF32);
  EXPECT_EQ(config.device.cpu.compute, CpuCompute::kF32);
  EXPECT_EQ(config.engine.max_sequences, 5);
  EXPECT_EQ(config.network.drain_timeout, absl::Seconds(90));
  EXPECT_EQ(config.network.max_message_bytes, 1 << 20);
  EXPECT_EQ(config.log_level, LogLevel::kError);
  EXPECT_EQ(config.engine.page_tokens, 16);
  EXPECT_EQ(config.engine.prefill_chunk, 128);
  EXPECT_EQ(config.engine.max_queued_requests, 9);
  EXPECT_EQ(config.network.ready_file, "/tmp/r");
  EXPECT_EQ(config.eviction.policy, "adakv+snapkv@0.5:sink=2");
  EXPECT_EQ(config.engine.curves, "/tmp/c");
  EXPECT_EQ(config.eviction.tail, 33);
  EXPECT_EQ(config.eviction.chat_tail, 44);
  EXPECT_EQ(config.engine.min_evicted_context, 55);
}

TEST_F(ConfigTest, FlagBeatsVariableBeatsFileBeatsDefault) {
  const std::string file = File("model = \"from-file\"\nmax-context = 1\nkv-memory = \"1GiB\"\nmax-sequences = 7\n");
  setenv("LUKV_MAX_CONTEXT", "2", 1);
  setenv("LUKV_KV_MEMORY", "2GiB", 1);
  const ServerConfig config = Config({"--config", file, "--max-context", "3"});
  EXPECT_EQ(config.engine.max_context, 3);                     // Flag over variable and file.
  EXPECT_EQ(config.engine.kv_memory_bytes, int64_t{2} << 30);  // Variable over file.
  EXPECT_EQ(config.engine.max_sequences, 7);                   // File over default.
  EXPECT_EQ(config.engine.prefill_chunk, EngineOptions().prefill_chunk);
  EXPECT_EQ(config.model.path, "from-file");
}

TEST_F(ConfigTest, RefusesPlaintextBeyondLoopbackUnlessAllowed) {
  const ExitRequest exit = ExitOf({"--model", "m", "--listen", "0.0.0.0:50051"});
  EXPECT_EQ(exit.code, 2);
  EXPECT_THAT(exit.text,
              AllOf(HasSubstr("--listen"), HasSubstr("0.0.0.0:50051"), HasSubstr("--insecure-listen-anywhere")));
  EXPECT_EQ(ExitOf({"--model", "m", "--metrics-listen", "[::]:9400"}).code, 2);
  EXPECT_EQ(Config({"--model", "m", "--listen", "0.0.0.0:1", "--insecure-listen-anywhere"}).network.listen,
            "0.0.0.0:1");
  setenv("LUKV_INSECURE_LISTEN_ANYWHERE", "true", 1);
  EXPECT_EQ(Config({"--model", "m", "--listen", "0.0.0.0:1"}).network.listen, "0.0.0.0:1");
}

TEST_F(ConfigTest, KnowsLoopback) {
  for (const char* address : {"127.0.0.1:1", "127.9.8.7:1", "localhost:1", "[::1]:1", "unix:/tmp/s"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address : {"0.0.0.0:1", "127.example.org:1", "127.0.0.1.example.org:1", "[::]:1", "10.0.0.1:1",
                              "127.0.0:1", "127.0.0.300:1", "localhost.example.org:1", ":1"}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST_F(ConfigTest, HelpAndVersionEndWell) {
  const ExitRequest help = ExitOf({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* flag : {"--model", "--listen", "--metrics-listen", "--kv-memory", "--config", "LUKV_KV_MEMORY"}) {
    EXPECT_THAT(help.text, HasSubstr(flag));
  }
  const ExitRequest version = ExitOf({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.text, "lukv-server 0.1.0\n");
}

struct WrongCase {
  std::string name;
  std::vector<std::string> arguments;
  std::string reason;
};

class WrongSettings : public testing::TestWithParam<WrongCase> {};

TEST_P(WrongSettings, EndWithOneLineAndCodeTwo) {
  const ExitRequest exit = ExitOf(GetParam().arguments);
  EXPECT_EQ(exit.code, 2);
  EXPECT_THAT(exit.text, HasSubstr(GetParam().reason));
  EXPECT_EQ(std::count(exit.text.begin(), exit.text.end(), '\n'), 1) << exit.text;
  EXPECT_THAT(exit.text, EndsWith("\n"));
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongSettings,
    testing::Values(WrongCase{"NoModel", {}, "--model"}, WrongCase{"UnknownFlag", {"--bogus", "1"}, "--bogus"},
                    WrongCase{"NoNumber", {"--model", "m", "--threads", "many"}, "--threads"},
                    WrongCase{"NegativeThreads", {"--model", "m", "--threads", "-1"}, "--threads"},
                    WrongCase{"NoSize", {"--model", "m", "--kv-memory", "2parsec"}, "--kv-memory"},
                    WrongCase{"NoDuration", {"--model", "m", "--drain-timeout", "soon"}, "--drain-timeout"},
                    WrongCase{"NegativeDuration", {"--model", "m", "--drain-timeout=-1s"}, "--drain-timeout"},
                    WrongCase{"UnknownChoice", {"--model", "m", "--kv-dtype", "int3"}, "--kv-dtype"},
                    WrongCase{"UnknownDevice", {"--model", "m", "--device", "abacus"}, "--device"},
                    WrongCase{"NoPort", {"--model", "m", "--listen", "127.0.0.1"}, "--listen"},
                    WrongCase{"PortTooHigh", {"--model", "m", "--listen", "127.0.0.1:65536"}, "--listen"},
                    WrongCase{"TinyMessages", {"--model", "m", "--max-message-size", "1"}, "--max-message-size"},
                    WrongCase{"NoConfigFile", {"--config", "/does/not/exist"}, "/does/not/exist"},
                    WrongCase{"UnknownPolicy", {"--model", "m", "--eviction", "h2o@0.8"}, "--eviction"},
                    WrongCase{"NoTail", {"--model", "m", "--tail", "0"}, "--tail"},
                    WrongCase{"NegativeChatTail", {"--model", "m", "--chat-tail=-1"}, "--chat-tail"},
                    WrongCase{"NoEvictedContext", {"--model", "m", "--min-evicted-context", "0"}, "evicted context"},
                    WrongCase{"EngineOption", {"--model", "m", "--max-sequences", "0"}, "max sequences"}),
    [](const auto& test) { return test.param.name; });

TEST_F(ConfigTest, RefusesUnknownKeysInTheFile) {
  const ExitRequest exit = ExitOf({"--config", File("model = \"m\"\nkv-memroy = \"1GiB\"\n")});
  EXPECT_EQ(exit.code, 2);
  EXPECT_THAT(exit.text, HasSubstr("kv-memroy"));
}

}  // namespace
}  // namespace lukv
