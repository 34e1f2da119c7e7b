#include "server/network_options.h"

#include <limits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "server/refuse_setting.h"

namespace lukv {
namespace {

constexpr char kInsecureHint[] = "an address beyond loopback serves anybody, unencrypted; allowed with ";

absl::Status CheckAddress(const std::string& flag, const std::string& address, bool may_be_unix) {
  if (may_be_unix && absl::StartsWith(address, "unix:") && address.size() > 5) return absl::OkStatus();
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return RefuseSetting(flag, absl::StrCat("\"", address, "\""), "allowed is host:port");
  }
  return absl::OkStatus();
}

absl::Status CheckReach(const std::string& flag, const std::string& address, bool allowed, const std::string& by) {
  if (allowed || IsLoopback(address)) return absl::OkStatus();
  return RefuseSetting(flag, address, absl::StrCat(kInsecureHint, by));
}

absl::Status CheckListeners(const NetworkOptions& network) {
  const bool anywhere = network.insecure_listen_anywhere;
  const bool probes_anywhere = anywhere || network.probes_listen_anywhere;
  LUKV_RETURN_IF_ERROR(CheckAddress("listen", network.listen, true));
  LUKV_RETURN_IF_ERROR(CheckReach("listen", network.listen, anywhere || network.tls.on(),
                                  "--insecure-listen-anywhere, and encrypted with --tls-cert and --tls-key"));
  if (!network.plaintext_listen.empty()) {
    LUKV_RETURN_IF_ERROR(CheckAddress("plaintext-listen", network.plaintext_listen, true));
    LUKV_RETURN_IF_ERROR(
        CheckReach("plaintext-listen", network.plaintext_listen, anywhere, "--insecure-listen-anywhere"));
  }
  if (!network.health_listen.empty()) {
    LUKV_RETURN_IF_ERROR(CheckAddress("health-listen", network.health_listen, true));
    LUKV_RETURN_IF_ERROR(
        CheckReach("health-listen", network.health_listen, probes_anywhere, "--probes-listen-anywhere"));
  }
  if (!network.metrics_listen.empty()) {
    LUKV_RETURN_IF_ERROR(CheckAddress("metrics-listen", network.metrics_listen, false));
    LUKV_RETURN_IF_ERROR(
        CheckReach("metrics-listen", network.metrics_listen, probes_anywhere, "--probes-listen-anywhere"));
  }
  return absl::OkStatus();
}

absl::Status CheckProtection(const NetworkOptions& network) {
  const TlsOptions& tls = network.tls;
  if (tls.cert.empty() != tls.key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together; only one of them is given");
  }
  if (!tls.client_ca.empty() && !tls.on()) {
    return RefuseSetting("tls-client-ca", tls.client_ca, "it needs --tls-cert and --tls-key");
  }
  if (network.keys_exempt_plaintext && network.api_keys.empty()) {
    return absl::InvalidArgumentError("--keys-exempt-plaintext makes sense only with --api-keys");
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const ConnectionLimits& limits) {
  LUKV_RETURN_IF_ERROR(CheckRange("max-metadata-size", limits.max_metadata_bytes, 1024, 16 << 20));
  constexpr int64_t kMaxMessage = int64_t{1} << 30;
  if (limits.max_message_bytes < 1024 || limits.max_message_bytes > kMaxMessage) {
    return RefuseSetting("max-message-size", absl::StrCat(limits.max_message_bytes), "allowed are 1KiB to 1GiB");
  }
  LUKV_RETURN_IF_ERROR(CheckRange("max-connections", limits.max_connections, 1, 1 << 20));
  LUKV_RETURN_IF_ERROR(CheckRange("max-streams-per-connection", limits.max_streams, 1, 1 << 20));
  LUKV_RETURN_IF_ERROR(
      CheckRange("min-ping-interval", limits.min_ping_interval, absl::ZeroDuration(), absl::Hours(24)));
  LUKV_RETURN_IF_ERROR(
      CheckRange("handshake-timeout", limits.handshake_timeout, absl::Milliseconds(1), absl::Hours(1)));
  LUKV_RETURN_IF_ERROR(
      CheckRange("max-connection-idle", limits.max_connection_idle, absl::ZeroDuration(), absl::Hours(24 * 20)));
  return CheckRange("max-connection-age", limits.max_connection_age, absl::ZeroDuration(), absl::Hours(24 * 20));
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

absl::Status NetworkOptions::Validate() const {
  LUKV_RETURN_IF_ERROR(CheckListeners(*this));
  LUKV_RETURN_IF_ERROR(CheckProtection(*this));
  LUKV_RETURN_IF_ERROR(CheckLimits(limits));
  LUKV_RETURN_IF_ERROR(CheckRange("drain-timeout", drain_timeout, absl::ZeroDuration(), absl::Hours(24)));
  return CheckRange("watchdog", watchdog, absl::ZeroDuration(), absl::Hours(24));
}

}  // namespace lukv
