// Where a server listens, with what protection, and what it puts up with.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace lukv {

// Paths of PEM files.
struct TlsOptions {
  std::string cert;       // The server's certificate, then those between it and the root; "": no TLS.
  std::string key;        // Its private key, without a password.
  std::string client_ca;  // Clients must show a certificate that one of these signed; "": none is asked for.

  bool on() const { return !cert.empty(); }
};

// Of every gRPC listener; zero durations: never.
struct ConnectionLimits {
  int64_t max_message_bytes = int64_t{256} << 20;
  int32_t max_metadata_bytes = 16 << 10;  // Of a request, names and values together.
  int32_t max_connections = 256;          // At once, by TCP, over listen and plaintext_listen.
  int32_t max_streams = 2048;             // Calls at once on a connection; a gateway brings all its calls on one.
  // Gateways ping idle connections every 30 s; who pings more often than this without a call is cut off.
  absl::Duration min_ping_interval = absl::Seconds(10);
  absl::Duration handshake_timeout = absl::Seconds(20);      // TLS and HTTP/2 together.
  absl::Duration max_connection_idle = absl::Hours(1);       // Without a call.
  absl::Duration max_connection_age = absl::ZeroDuration();  // Then running calls end, and new ones come on another.
};

struct NetworkOptions {
  // Addresses are host:port (port 0 lets the system choose) or, for gRPC, unix:PATH.
  std::string listen = "127.0.0.1:50051";         // With TLS if that is on.
  std::string plaintext_listen;                   // The same services without TLS; "": none.
  std::string health_listen;                      // Only the health service, without TLS; "": none.
  std::string metrics_listen = "127.0.0.1:9400";  // HTTP, not unix; "": none.
  bool insecure_listen_anywhere = false;          // Plaintext beyond loopback.
  bool probes_listen_anywhere = false;            // The same for health_listen and metrics_listen alone.
  TlsOptions tls;
  std::string api_keys;                // File (server/api_keys.h); "": anybody may call.
  bool keys_exempt_plaintext = false;  // Who comes without TLS needs none.
  ConnectionLimits limits;
  absl::Duration drain_timeout = absl::Seconds(30);
  absl::Duration watchdog = absl::Seconds(120);  // A step of the engine that takes longer is stuck; zero: never.
  std::string ready_file;                        // "": none.

  // INVALID_ARGUMENT with the flag, what it got and what is allowed.
  absl::Status Validate() const;
};

// Whether only this machine can reach the address: 127.0.0.0/8, ::1, localhost, unix sockets.
bool IsLoopback(const std::string& address);

}  // namespace lukv
