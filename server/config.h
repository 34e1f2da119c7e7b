// Everything that can be set about a server, in one tree, and where the values come from.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/settings.h"
#include "engine/engine.h"
#include "kernels/device.h"
#include "server/network_options.h"

namespace lukv {

inline constexpr char kAutoEviction[] = "auto";
inline constexpr char kAutoPolicy[] = "lukv+expected_attention@0.8";

// What a server sets where the engine would wait for ever.
inline constexpr absl::Duration kQueueTimeout = absl::Minutes(10);

enum class LogFormat : uint8_t { kText, kJson };
enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError, kOff };

struct ModelOptions {
  std::string path;  // A GGUF file or a Hugging Face folder.
  std::string name;  // What clients and metrics see; "": from the path.
};

// What becomes of the contexts of requests that do not say it themselves.
struct EvictionOptions {
  // A policy's name, or kAutoEviction: kAutoPolicy if the model has the curve for it, else off.
  std::string policy = kAutoEviction;
  int32_t tail = 128;
  int32_t chat_tail = 512;
};

struct ServerConfig {
  ModelOptions model;
  DeviceOptions device;
  NetworkOptions network;
  EngineOptions engine = {.queue_timeout = kQueueTimeout};
  EvictionOptions eviction;
  LogFormat log_format = LogFormat::kText;
  LogLevel log_level = LogLevel::kInfo;

  // INVALID_ARGUMENT with the flag, what it got and what is allowed.
  absl::Status Validate() const;
};

// Settings come from the command line, LUKV_* variables and a file (base/settings.h). The result is validated.
std::variant<ServerConfig, ExitRequest> ParseServerConfig(int argc, const char* const* argv);

}  // namespace lukv
