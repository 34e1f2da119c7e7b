#include "tools/client/connection.h"

#include <grpcpp/create_channel.h>

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace lukv {
namespace {

constexpr size_t kMaxFileBytes = size_t{4} << 20;

absl::StatusOr<std::string> ReadIfNamed(const std::string& path) {
  if (path.empty()) return std::string();
  return ReadWholeFile(path, kMaxFileBytes);
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const ConnectionOptions& options) {
  const bool tls = options.wants_tls();
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together; only one of them is given");
  }
  if (!tls && !options.tls_cert.empty()) return absl::InvalidArgumentError("--tls-cert needs --tls or --tls-ca");
  if (!tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions files;
  LUKV_ASSIGN_OR_RETURN(files.pem_root_certs, ReadIfNamed(options.tls_ca));
  LUKV_ASSIGN_OR_RETURN(files.pem_cert_chain, ReadIfNamed(options.tls_cert));
  LUKV_ASSIGN_OR_RETURN(files.pem_private_key, ReadIfNamed(options.tls_key));
  return grpc::SslCredentials(files);
}

void AddConnectionOptions(CLI::App& app, ConnectionOptions& options) {
  const std::string group = "Connection";
  app.add_option("--server", options.server, "Address of the server: host:port or unix:PATH")
      ->group(group)
      ->capture_default_str();
  app.add_flag("--tls", options.tls, "Speak TLS, and trust the authorities that this machine trusts")->group(group);
  app.add_option("--tls-ca", options.tls_ca, "Speak TLS, and trust the authorities of this PEM file")->group(group);
  app.add_option("--tls-cert", options.tls_cert, "PEM file with this client's certificate, if the server wants one")
      ->group(group);
  app.add_option("--tls-key", options.tls_key, "PEM file with its private key")->group(group);
  app.add_option("--api-key-file", options.api_key_file,
                 "File with the API key; without it the variable LUKV_API_KEY is read. There is no flag for the key "
                 "itself: others could see it in the list of processes")
      ->group(group);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const ConnectionOptions& options) {
  LUKV_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, Credentials(options));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(options.server, credentials, arguments);
}

absl::StatusOr<std::string> ReadKey(const ConnectionOptions& options) {
  const char* variable = std::getenv("LUKV_API_KEY");
  std::string key = variable != nullptr ? variable : "";
  if (!options.api_key_file.empty()) {
    LUKV_ASSIGN_OR_RETURN(key, ReadWholeFile(options.api_key_file, kMaxFileBytes));
    absl::StripAsciiWhitespace(&key);
    if (key.empty()) return absl::InvalidArgumentError(absl::StrCat(options.api_key_file, ": has no API key"));
  }
  return key;
}

void BringKey(const std::string& key, grpc::ClientContext& context) {
  if (!key.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", key));
}

}  // namespace lukv
