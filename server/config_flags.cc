// The flags of lukv-server, their help, and how they are read.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/installation.h"
#include "server/config.h"

namespace lukv {
namespace {

constexpr char kProgram[] = "lukv-server";

// Settings as they are written, where CLI11 has no type for them.
struct RawSettings {
  uint64_t kv_memory = 0;
  double max_step_ms = 0;
  std::string compute = "int8";
  std::string kv_dtype = "bf16";
  std::string log_level = "info";
  std::string log_format = "text";
};

const std::map<std::string, CpuCompute> kComputes = {{"int8", CpuCompute::kInt8}, {"f32", CpuCompute::kF32}};
const std::map<std::string, DType> kKvDtypes = {{"bf16", DType::kBF16}, {"f32", DType::kF32}};
const std::map<std::string, LogFormat> kLogFormats = {{"text", LogFormat::kText}, {"json", LogFormat::kJson}};
const std::map<std::string, LogLevel> kLogLevels = {{"debug", LogLevel::kDebug},
                                                    {"info", LogLevel::kInfo},
                                                    {"warning", LogLevel::kWarning},
                                                    {"error", LogLevel::kError},
                                                    {"off", LogLevel::kOff}};

CLI::Validator DurationValidator() {
  return CLI::Validator(
      [](std::string& text) {
        absl::Duration duration;
        return ParseSeconds(text, &duration) ? std::string() : absl::StrCat("\"", text, "\" is no duration like 30s");
      },
      "DURATION");
}

class Parser {
 public:
  Parser() : app_("Serves a language model over gRPC.", kProgram) {
    app_.footer(
        "A flag --some-name is also read from the variable LUKV_SOME_NAME and from `some-name = VALUE` in the\n"
        "file given by --config; the command line wins over the variable, the variable over the file.\n"
        "Exit codes: 0 after --help, --version or a shutdown by SIGINT or SIGTERM; 1 the model or an address\n"
        "cannot be used; 2 a setting is wrong.");
    AddModelOptions();
    AddListenOptions();
    AddProtectionOptions();
    AddConnectionOptions();
    AddLifeOptions();
    AddEngineOptions();
    AddQueueOptions();
    AddEvictionOptions();
  }

  std::variant<ServerConfig, ExitRequest> Parse(int argc, const char* const* argv) {
    if (std::optional<ExitRequest> exit = ParseSettings(app_, argc, argv)) return *std::move(exit);
    Convert();
    if (absl::Status status = config_.Validate(); !status.ok())
      return WrongSetting(app_, std::string(status.message()));
    return config_;
  }

 private:
  template <typename T>
  CLI::Option* Add(const std::string& name, T& value, const std::string& help) {
    return app_.add_option("--" + name, value, help)->capture_default_str();
  }

  void AddModelOptions() {
    Add("model", config_.model.path, "GGUF file or Hugging Face folder (required)");
    Add("model-name", config_.model.name, "Name that clients and metrics see [from the path]");
    Add("device", config_.device.device,
        "Where to compute: cpu, cuda, cuda:N, or auto: the first CUDA device there is");
    Add("threads", config_.device.cpu.threads, "CPU threads; 0: one per core");
    Add("compute", raw_.compute, "Arithmetic of quantised layers: activations in int8 (fast) or f32")
        ->check(CLI::IsMember(&kComputes));
    Add("log-format", raw_.log_format, "Form of its lines")->check(CLI::IsMember(&kLogFormats));
    Add("log-level", raw_.log_level, "What goes to stderr; never prompts or answers")
        ->check(CLI::IsMember(&kLogLevels));
  }

  // Durations and sizes as people write them.
  CLI::Option* AddDuration(const std::string& name, absl::Duration& value, const std::string& help) {
    const auto set = [&value](const std::string& text) { ParseSeconds(text, &value); };
    return app_.add_option_function<std::string>("--" + name, set, help)
        ->check(DurationValidator())
        ->default_str(absl::FormatDuration(value));
  }
  template <typename T>
  CLI::Option* AddSize(const std::string& name, T& value, const std::string& shown, const std::string& help) {
    const auto set = [&value](const uint64_t& bytes) {
      value = static_cast<T>(std::min(bytes, static_cast<uint64_t>(std::numeric_limits<T>::max())));
    };
    return app_.add_option_function<uint64_t>("--" + name, set, help)
        ->transform(CLI::AsSizeValue(true))
        ->default_str(shown);
  }

  void AddListenOptions() {
    NetworkOptions& network = config_.network;
    Add("listen", network.listen,
        "Address of the gRPC services: host:port or unix:PATH; port 0: any free one; with TLS if --tls-cert is given");
    Add("plaintext-listen", network.plaintext_listen,
        "Another address of the same services, never with TLS: for a gateway that cannot speak it; empty: none");
    Add("health-listen", network.health_listen,
        "Address of the health service alone (grpc.health.v1, plaintext), for probes; empty: none");
    Add("metrics-listen", network.metrics_listen, "Address of the Prometheus page; empty: none");
    app_.add_flag("--insecure-listen-anywhere", network.insecure_listen_anywhere,
                  "Allow plaintext addresses beyond loopback; who reaches them can read along, and use the server if "
                  "it wants no keys. Addresses with TLS need no leave");
    app_.add_flag("--probes-listen-anywhere", network.probes_listen_anywhere,
                  "Allow --health-listen and --metrics-listen beyond loopback; they tell names, loads and request ids, "
                  "never texts");
  }

  void AddProtectionOptions() {
    NetworkOptions& network = config_.network;
    Add("tls-cert", network.tls.cert,
        "PEM file with the server's certificate chain: --listen speaks TLS. Replaced files are used from the next "
        "connection on; broken ones are not, the log says so");
    Add("tls-key", network.tls.key, "PEM file with its private key");
    Add("tls-client-ca", network.tls.client_ca,
        "PEM file with authorities: clients with TLS must show a certificate that one of them signed");
    Add("api-keys", network.api_keys,
        "File with a line NAME SHA256 [concurrency=N] [queued-tokens=N] per key (lukv-client hash-key makes one); read "
        "again when it changes. All methods but those of health and reflection then want \"authorization: Bearer "
        "KEY\"");
    app_.add_flag("--keys-exempt-plaintext", network.keys_exempt_plaintext,
                  "Connections without TLS need no key: for a gateway that cannot send one");
  }

  void AddConnectionOptions() {
    ConnectionLimits& limits = config_.network.limits;
    AddSize("max-message-size", limits.max_message_bytes, "256MiB", "Largest message accepted");
    AddSize("max-metadata-size", limits.max_metadata_bytes, "16KiB", "Largest metadata of a request accepted");
    Add("max-connections", limits.max_connections, "Connections at once; more are closed as they come");
    Add("max-streams-per-connection", limits.max_streams, "Calls at once on a connection; more wait at the client");
    AddDuration("min-ping-interval", limits.min_ping_interval,
                "Connections that ping more often than this without a call are closed");
    AddDuration("handshake-timeout", limits.handshake_timeout, "Time to agree on TLS and HTTP/2");
    AddDuration("max-connection-idle", limits.max_connection_idle,
                "Connections without a call for so long are closed; 0: never");
    AddDuration("max-connection-age", limits.max_connection_age,
                "Connections so old take no more calls and close when those they have have ended; 0: never");
  }

  void AddLifeOptions() {
    NetworkOptions& network = config_.network;
    AddDuration("drain-timeout", network.drain_timeout,
                "Time that running requests have to finish after SIGINT or SIGTERM");
    AddDuration("watchdog", network.watchdog,
                "A step of the engine that takes longer makes the health of the process (the empty name) NOT_SERVING "
                "until it ends; 0: never");
    Add("ready-file", network.ready_file,
        "Once the model is served, write {\"listen\": ADDRESS, \"metrics\": ADDRESS, ...} to this file");
  }

  void AddEngineOptions() {
    EngineOptions& engine = config_.engine;
    Add("kv-memory", raw_.kv_memory,
        "Memory for the KV cache; 0: what --memory-utilization leaves, on the CPU 2GiB at most")
        ->transform(CLI::AsSizeValue(true));
    Add("memory-utilization", engine.memory_utilization, "Share of the device's free memory that may be taken");
    Add("kv-dtype", raw_.kv_dtype, "Element type of the KV cache")->check(CLI::IsMember(&kKvDtypes));
    Add("page-tokens", engine.page_tokens, "Tokens of one kv head in a page of the KV cache");
    Add("max-sequences", engine.max_sequences, "Sequences that run at once");
    Add("max-context", engine.max_context, "Tokens of prompt and output together; 0: as the model was made for");
    Add("prefill-chunk", engine.prefill_chunk, "Prompt tokens computed at a time");
    Add("max-step-ms", raw_.max_step_ms,
        "Milliseconds that a step may take while tokens are made, prompts included; 0: prompts get a little less time "
        "than the making of tokens takes");
    Add("generation-reserve", engine.generation_reserve, "Tokens of output for which memory is set aside at a time");
    Add("share-contexts", engine.share_contexts,
        "Keep compressed contexts for later requests with the same one while memory is free (true or false)");
    Add("max-pinned-contexts", engine.max_pinned_contexts,
        "Share of the KV cache that contexts of CreateContext may hold");
  }

  void AddQueueOptions() {
    EngineOptions& engine = config_.engine;
    Add("max-queued-requests", engine.max_queued_requests, "Requests that wait; more are refused");
    Add("max-queued-tokens", engine.max_queued_tokens, "Prompt tokens of all that wait; more are refused");
    AddDuration("queue-timeout", engine.queue_timeout, "Who waited for so long is refused; 0: nobody");
    AddDuration("priority-ageing", engine.priority_ageing, "Waiting for so long is worth one step of priority");
    AddDuration("slow-client-timeout", engine.slow_client_timeout,
                "Requests whose client takes nothing for so long are ended");
  }

  void AddEvictionOptions() {
    EvictionOptions& eviction = config_.eviction;
    Add("eviction", eviction.policy,
        absl::StrCat("Policy of requests that name none: full, ALLOCATOR+SCORER@RATIO, or auto: ", kAutoPolicy,
                     " if the model has a budget curve for it, else full"));
    Add("curves", config_.engine.curves,
        "Folder with the model's budget curves, as lukv-profile writes them [one of this model under "
        "../share/lukv/profiles]");
    Add("min-evicted-context", config_.engine.min_evicted_context, "Tokens; shorter contexts are kept whole");
    Add("tail", eviction.tail,
        "Last tokens of a prompt that count as the question, which is kept whole, if the request brings no context");
    Add("chat-tail", eviction.chat_tail, "In a conversation the whole last turn counts as the question, up to so many");
  }

  void Convert() {
    config_.engine.curves_root = ShareFolder("profiles");
    config_.engine.kv_memory_bytes = static_cast<int64_t>(raw_.kv_memory);
    config_.engine.max_step = absl::Milliseconds(raw_.max_step_ms);
    if (config_.engine.queue_timeout == absl::ZeroDuration()) config_.engine.queue_timeout = absl::InfiniteDuration();
    config_.device.cpu.compute = kComputes.at(raw_.compute);
    config_.engine.kv_dtype = kKvDtypes.at(raw_.kv_dtype);
    config_.log_level = kLogLevels.at(raw_.log_level);
    config_.log_format = kLogFormats.at(raw_.log_format);
    if (config_.model.name.empty()) {
      std::filesystem::path path(config_.model.path);
      if (path.filename().empty()) path = path.parent_path();  // "folder/"
      config_.model.name = path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
    }
  }

  CLI::App app_;
  ServerConfig config_;
  RawSettings raw_;
};

}  // namespace

std::variant<ServerConfig, ExitRequest> ParseServerConfig(int argc, const char* const* argv) {
  return Parser().Parse(argc, argv);
}

}  // namespace lukv
