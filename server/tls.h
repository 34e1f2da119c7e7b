// TLS of a listener, from files that may be replaced while it listens.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/network_options.h"

namespace lukv {

// The files are looked at whenever a client connects: what was replaced is used from that handshake on. A set that
// cannot be used (a key of another certificate, half of a file) is not: the last good one stays, and the log has one
// warning. Connections that are open go on with what they began with.
// The credentials must outlive the servers that use them. INVALID_ARGUMENT, NOT_FOUND, ...: the files cannot be used.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsCredentials(const TlsOptions& options);

}  // namespace lukv
