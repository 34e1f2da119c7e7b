// How a client reaches a server: the address, TLS, and its API key.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace CLI {
class App;
}

namespace lukv {

struct ConnectionOptions {
  std::string server = "127.0.0.1:50051";
  bool tls = false;  // With the authorities that this machine trusts, if tls_ca is "".
  // PEM files; "": none.
  std::string tls_ca;    // Implies tls.
  std::string tls_cert;  // For a server that asks clients for theirs; with tls_key.
  std::string tls_key;
  std::string api_key_file;  // "": the variable LUKV_API_KEY, if that is set.

  bool wants_tls() const { return tls || !tls_ca.empty(); }
};

void AddConnectionOptions(CLI::App& app, ConnectionOptions& options);

// INVALID_ARGUMENT: the options contradict each other; another error: a file cannot be read.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const ConnectionOptions& options);
absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const ConnectionOptions& options);

// The API key; "": none is wanted. An error: the file cannot be read, or has no key.
absl::StatusOr<std::string> ReadKey(const ConnectionOptions& options);
// Lets the call bring the key, if it is not "".
void BringKey(const std::string& key, grpc::ClientContext& context);

}  // namespace lukv
