#include "server/config.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/installation.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

constexpr char kProgram[] = "lukv-server";

// Settings as they are written, where CLI11 has no type for them.
struct RawSettings {
  uint64_t kv_memory = 0;
  uint64_t max_message_size = 0;
  std::string drain_timeout = "30s";
  std::string compute = "int8";
  std::string kv_dtype = "bf16";
  std::string log_level = "info";
};

const std::map<std::string, CpuCompute> kComputes = {{"int8", CpuCompute::kInt8}, {"f32", CpuCompute::kF32}};
const std::map<std::string, DType> kKvDtypes = {{"bf16", DType::kBF16}, {"f32", DType::kF32}};
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
    AddNetworkOptions();
    AddEngineOptions();
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
    Add("log-level", raw_.log_level, "What goes to stderr; never prompts or answers")
        ->check(CLI::IsMember(&kLogLevels));
  }

  void AddNetworkOptions() {
    NetworkOptions& network = config_.network;
    Add("listen", network.listen, "Address of the gRPC service: host:port or unix:PATH; port 0: any free one");
    Add("metrics-listen", network.metrics_listen, "Address of the Prometheus page; empty: none");
    app_.add_flag("--insecure-listen-anywhere", network.insecure_listen_anywhere,
                  "Allow addresses beyond loopback; anybody who reaches them can use the server, unencrypted");
    Add("max-message-size", raw_.max_message_size, "Largest message accepted")
        ->transform(CLI::AsSizeValue(true))
        ->default_str("256MiB");
    Add("drain-timeout", raw_.drain_timeout, "Time that running requests have to finish after SIGINT or SIGTERM")
        ->check(DurationValidator());
    Add("ready-file", network.ready_file,
        "Once the model is served, write {\"listen\": ADDRESS, \"metrics\": ADDRESS} to this file");
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
    Add("max-queued-requests", engine.max_queued_requests, "Requests that wait; more are refused");
    Add("max-context", engine.max_context, "Tokens of prompt and output together; 0: as the model was made for");
    Add("prefill-chunk", engine.prefill_chunk, "Prompt tokens computed at a time");
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
    if (app_.count("--max-message-size") > 0) {
      config_.network.max_message_bytes = static_cast<int64_t>(raw_.max_message_size);
    }
    config_.device.cpu.compute = kComputes.at(raw_.compute);
    config_.engine.kv_dtype = kKvDtypes.at(raw_.kv_dtype);
    config_.log_level = kLogLevels.at(raw_.log_level);
    ParseSeconds(raw_.drain_timeout, &config_.network.drain_timeout);
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

absl::Status Refuse(const std::string& flag, const std::string& got, const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": got ", got, "; ", allowed));
}

absl::Status CheckAddress(const std::string& flag, const std::string& address, bool may_be_unix, bool anywhere) {
  if (may_be_unix && absl::StartsWith(address, "unix:") && address.size() > 5) return absl::OkStatus();
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return Refuse(flag, absl::StrCat("\"", address, "\""), "allowed is host:port");
  }
  if (!anywhere && !IsLoopback(address)) {
    return Refuse(flag, address,
                  "an address beyond loopback serves anybody, unencrypted; --insecure-listen-anywhere allows it");
  }
  return absl::OkStatus();
}

}  // namespace

bool IsLoopback(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return true;
  std::string host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  // Only a whole dotted quad: "127.example.org" is a name.
  const std::vector<std::string> parts = absl::StrSplit(host, '.');
  if (parts.size() != 4 || parts[0] != "127") return false;
  for (const std::string& part : parts) {
    int value = -1;
    if (!absl::SimpleAtoi(part, &value) || value < 0 || value > 255) return false;
  }
  return true;
}

absl::Status ServerConfig::Validate() const {
  if (model.path.empty()) {
    return absl::InvalidArgumentError("--model is missing: give a GGUF file or a Hugging Face folder");
  }
  if (const absl::Status known = CheckDeviceName(device.device); !known.ok()) {
    return Refuse("device", device.device, std::string(known.message()));
  }
  if (device.cpu.threads < 0 || device.cpu.threads > 1024) {
    return Refuse("threads", absl::StrCat(device.cpu.threads), "allowed are 0 (one per core) to 1024");
  }
  LUKV_RETURN_IF_ERROR(CheckAddress("listen", network.listen, true, network.insecure_listen_anywhere));
  if (!network.metrics_listen.empty()) {
    LUKV_RETURN_IF_ERROR(
        CheckAddress("metrics-listen", network.metrics_listen, false, network.insecure_listen_anywhere));
  }
  constexpr int64_t kMaxMessage = int64_t{1} << 30;
  if (network.max_message_bytes < 1024 || network.max_message_bytes > kMaxMessage) {
    return Refuse("max-message-size", absl::StrCat(network.max_message_bytes), "allowed are 1KiB to 1GiB");
  }
  if (network.drain_timeout < absl::ZeroDuration() || network.drain_timeout > absl::Hours(24)) {
    return Refuse("drain-timeout", absl::FormatDuration(network.drain_timeout), "allowed are 0s to 24h");
  }
  if (eviction.policy != kAutoEviction) {
    const absl::StatusOr<Policy> policy = ParsePolicy(eviction.policy);
    if (!policy.ok()) return Refuse("eviction", eviction.policy, std::string(policy.status().message()));
  }
  if (eviction.tail < 1) return Refuse("tail", absl::StrCat(eviction.tail), "allowed is 1 or more");
  if (eviction.chat_tail < 0) return Refuse("chat-tail", absl::StrCat(eviction.chat_tail), "allowed is 0 or more");
  return engine.Validate();
}

std::variant<ServerConfig, ExitRequest> ParseServerConfig(int argc, const char* const* argv) {
  return Parser().Parse(argc, argv);
}

}  // namespace lukv
