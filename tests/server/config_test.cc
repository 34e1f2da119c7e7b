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
  EXPECT_EQ(config.network.limits.max_message_bytes, 256 << 20);
  EXPECT_EQ(config.engine.queue_timeout, absl::Minutes(10));
  EXPECT_EQ(config.engine.max_step, absl::ZeroDuration());
  EXPECT_TRUE(config.engine.share_contexts);
  EXPECT_FALSE(config.network.tls.on());
  EXPECT_EQ(config.network.watchdog, absl::Seconds(120));
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
  EXPECT_EQ(config.network.limits.max_message_bytes, 1 << 20);
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

TEST_F(ConfigTest, TakesFlagsOfProtection) {
  const NetworkOptions network = Config({"--model",
                                         "m",
                                         "--listen",
                                         "0.0.0.0:443",
                                         "--plaintext-listen",
                                         "127.0.0.1:1",
                                         "--health-listen",
                                         "127.0.0.1:2",
                                         "--tls-cert",
                                         "c",
                                         "--tls-key",
                                         "k",
                                         "--tls-client-ca",
                                         "a",
                                         "--api-keys",
                                         "f",
                                         "--keys-exempt-plaintext",
                                         "--max-metadata-size",
                                         "32KiB",
                                         "--max-connections",
                                         "3",
                                         "--max-streams-per-connection",
                                         "4",
                                         "--min-ping-interval",
                                         "5s",
                                         "--handshake-timeout",
                                         "6",
                                         "--max-connection-idle",
                                         "7m",
                                         "--max-connection-age",
                                         "8h",
                                         "--watchdog",
                                         "0"})
                                     .network;
  EXPECT_EQ(network.listen, "0.0.0.0:443");
  EXPECT_EQ(network.plaintext_listen, "127.0.0.1:1");
  EXPECT_EQ(network.health_listen, "127.0.0.1:2");
  EXPECT_EQ(network.tls.cert, "c");
  EXPECT_EQ(network.tls.key, "k");
  EXPECT_EQ(network.tls.client_ca, "a");
  EXPECT_EQ(network.api_keys, "f");
  EXPECT_TRUE(network.keys_exempt_plaintext);
  EXPECT_EQ(network.limits.max_metadata_bytes, 32 << 10);
  EXPECT_EQ(network.limits.max_connections, 3);
  EXPECT_EQ(network.limits.max_streams, 4);
  EXPECT_EQ(network.limits.min_ping_interval, absl::Seconds(5));
  EXPECT_EQ(network.limits.handshake_timeout, absl::Seconds(6));
  EXPECT_EQ(network.limits.max_connection_idle, absl::Minutes(7));
  EXPECT_EQ(network.limits.max_connection_age, absl::Hours(8));
  EXPECT_EQ(network.watchdog, absl::ZeroDuration());
}

TEST_F(ConfigTest, TakesFlagsOfTheQueue) {
  const EngineOptions engine =
      Config({"--model", "m", "--max-queued-tokens", "7", "--queue-timeout", "90s", "--priority-ageing", "500ms",
              "--max-step-ms", "2.5", "--generation-reserve", "8", "--slow-client-timeout", "5s", "--share-contexts",
              "false", "--max-pinned-contexts", "0.25"})
          .engine;
  EXPECT_EQ(engine.max_queued_tokens, 7);
  EXPECT_EQ(engine.queue_timeout, absl::Seconds(90));
  EXPECT_EQ(engine.priority_ageing, absl::Milliseconds(500));
  EXPECT_EQ(engine.max_step, absl::Microseconds(2500));
  EXPECT_EQ(engine.generation_reserve, 8);
  EXPECT_EQ(engine.slow_client_timeout, absl::Seconds(5));
  EXPECT_FALSE(engine.share_contexts);
  EXPECT_EQ(engine.max_pinned_contexts, 0.25);
  EXPECT_EQ(Config({"--model", "m", "--queue-timeout", "0"}).engine.queue_timeout, absl::InfiniteDuration());
}

TEST_F(ConfigTest, FilesAndVariablesSetDurationsAndSizesToo) {
  const std::string file =
      File("model = \"m\"\nwatchdog = \"9s\"\nmax-metadata-size = \"8KiB\"\nqueue-timeout = \"1s\"\n");
  setenv("LUKV_QUEUE_TIMEOUT", "2s", 1);
  const ServerConfig config = Config({"--config", file});
  unsetenv("LUKV_QUEUE_TIMEOUT");
  EXPECT_EQ(config.network.watchdog, absl::Seconds(9));
  EXPECT_EQ(config.network.limits.max_metadata_bytes, 8 << 10);
  EXPECT_EQ(config.engine.queue_timeout, absl::Seconds(2));
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

TEST_F(ConfigTest, TlsAndProbesGoBeyondLoopbackWithLessThanPlaintext) {
  const std::vector<std::string> tls = {"--model", "m", "--tls-cert", "c", "--tls-key", "k"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), tls.begin(), tls.end());
    return more;
  };
  EXPECT_EQ(Config(with({"--listen", "0.0.0.0:1"})).network.listen, "0.0.0.0:1");
  EXPECT_THAT(ExitOf(with({"--plaintext-listen", "0.0.0.0:1"})).text,
              AllOf(HasSubstr("--plaintext-listen"), HasSubstr("--insecure-listen-anywhere")));
  Config(with({"--plaintext-listen", "0.0.0.0:1", "--insecure-listen-anywhere"}));
  for (const char* flag : {"--health-listen", "--metrics-listen"}) {
    EXPECT_THAT(ExitOf(with({flag, "0.0.0.0:1"})).text, AllOf(HasSubstr(flag), HasSubstr("--probes-listen-anywhere")));
    Config(with({flag, "0.0.0.0:1", "--probes-listen-anywhere"}));
  }
  EXPECT_EQ(ExitOf({"--model", "m", "--listen", "0.0.0.0:1", "--probes-listen-anywhere"}).code, 2);
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
                    WrongCase{"TlsWithoutKey", {"--model", "m", "--tls-cert", "c"}, "--tls-key"},
                    WrongCase{"ClientsWithoutTls", {"--model", "m", "--tls-client-ca", "c"}, "--tls-client-ca"},
                    WrongCase{"ExemptWithoutKeys", {"--model", "m", "--keys-exempt-plaintext"}, "--api-keys"},
                    WrongCase{"TinyMetadata", {"--model", "m", "--max-metadata-size", "1"}, "--max-metadata-size"},
                    WrongCase{"HugeMetadata", {"--model", "m", "--max-metadata-size", "9EB"}, "--max-metadata-size"},
                    WrongCase{"NoConnections", {"--model", "m", "--max-connections", "0"}, "--max-connections"},
                    WrongCase{"NoStreams", {"--model", "m", "--max-streams-per-connection", "0"}, "--max-streams"},
                    WrongCase{"NoHandshake", {"--model", "m", "--handshake-timeout", "0"}, "--handshake-timeout"},
                    WrongCase{
                        "IdleTooLong", {"--model", "m", "--max-connection-idle", "1000h"}, "--max-connection-idle"},
                    WrongCase{"NegativeWatchdog", {"--model", "m", "--watchdog=-1s"}, "--watchdog"},
                    WrongCase{"BadHealth", {"--model", "m", "--health-listen", "nowhere"}, "--health-listen"},
                    WrongCase{"NoQueuedTokens", {"--model", "m", "--max-queued-tokens", "0"}, "--max-queued-tokens"},
                    WrongCase{"NegativeQueue", {"--model", "m", "--queue-timeout=-1s"}, "--queue-timeout"},
                    WrongCase{"NoAgeing", {"--model", "m", "--priority-ageing", "0"}, "--priority-ageing"},
                    WrongCase{"NegativeStep", {"--model", "m", "--max-step-ms=-1"}, "--max-step-ms"},
                    WrongCase{"NoReserve", {"--model", "m", "--generation-reserve", "0"}, "--generation-reserve"},
                    WrongCase{"NoPatience", {"--model", "m", "--slow-client-timeout", "0"}, "--slow-client-timeout"},
                    WrongCase{"NoBool", {"--model", "m", "--share-contexts", "perhaps"}, "--share-contexts"},
                    WrongCase{"AllPinned", {"--model", "m", "--max-pinned-contexts", "1.5"}, "--max-pinned-contexts"},
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
