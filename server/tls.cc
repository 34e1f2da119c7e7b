#include "server/tls.h"

#include <grpc/grpc_security.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "server/log.h"

namespace lukv {
namespace {

constexpr size_t kMaxPemBytes = size_t{4} << 20;

struct Pems {
  std::string cert;
  std::string key;
  std::string client_ca;
};

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

Bio Reader(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

// Nobody sits at the server to be asked.
int NoPassword(char*, int, int, void*) { return 0; }

// The first certificate of a file in which every block is one.
absl::StatusOr<Certificate> FirstCertificate(const std::string& path, const std::string& pem) {
  const Bio bio = Reader(pem);
  Certificate first;
  while (Certificate next{PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)}) {
    if (first == nullptr) first = std::move(next);
  }
  const int reason = ERR_GET_REASON(ERR_peek_last_error());
  ERR_clear_error();
  if (first == nullptr || reason != PEM_R_NO_START_LINE) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has no certificates in PEM, or a broken one"));
  }
  return first;
}

std::string ValidUntil(const X509& certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), X509_get0_notAfter(&certificate));
  char* text = nullptr;
  const auto length = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(length));
}

// Also says in the log what is used from now on.
absl::StatusOr<Pems> ReadPems(const TlsOptions& options) {
  Pems pems;
  LUKV_ASSIGN_OR_RETURN(pems.cert, ReadWholeFile(options.cert, kMaxPemBytes));
  LUKV_ASSIGN_OR_RETURN(pems.key, ReadWholeFile(options.key, kMaxPemBytes));
  LUKV_ASSIGN_OR_RETURN(const Certificate cert, FirstCertificate(options.cert, pems.cert));
  const Bio bio = Reader(pems.key);
  const PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  const bool fits = key != nullptr && X509_check_private_key(cert.get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(options.key, ": has no private key in PEM without a password"));
  }
  if (!fits) {
    return absl::InvalidArgumentError(absl::StrCat(options.key, ": is not the key of the certificate ", options.cert));
  }
  if (!options.client_ca.empty()) {
    LUKV_ASSIGN_OR_RETURN(pems.client_ca, ReadWholeFile(options.client_ca, kMaxPemBytes));
    LUKV_RETURN_IF_ERROR(FirstCertificate(options.client_ca, pems.client_ca).status());
  }
  LogInfo(absl::StrCat("TLS with the certificate ", options.cert, ", valid until ", ValidUntil(*cert)));
  return pems;
}

// gRPC asks for these at every handshake.
class Files {
 public:
  static absl::StatusOr<std::unique_ptr<Files>> Open(const TlsOptions& options) {
    std::unique_ptr<Files> files(new Files(options));
    MutexLock lock(&files->mutex_);
    files->stamps_ = files->Stamps();
    LUKV_ASSIGN_OR_RETURN(files->fresh_, ReadPems(options));
    return files;
  }

  // What gRPC has not been given yet. Any thread.
  std::optional<Pems> TakeFresh() {
    MutexLock lock(&mutex_);
    if (const std::array<FileStamp, 3> stamps = Stamps(); stamps != stamps_) {
      stamps_ = stamps;
      if (absl::StatusOr<Pems> pems = ReadPems(options_); pems.ok()) {
        fresh_ = *std::move(pems);
      } else {
        LogWarning(absl::StrCat("TLS goes on with the files it had: ", std::string(pems.status().message())));
      }
    }
    return std::exchange(fresh_, std::nullopt);
  }

 private:
  explicit Files(TlsOptions options) : options_(std::move(options)) {}

  std::array<FileStamp, 3> Stamps() const {
    return {StampOf(options_.cert), StampOf(options_.key), StampOf(options_.client_ca)};
  }

  const TlsOptions options_;
  Mutex mutex_;
  std::array<FileStamp, 3> stamps_ ABSL_GUARDED_BY(mutex_);
  std::optional<Pems> fresh_ ABSL_GUARDED_BY(mutex_);
};

grpc_ssl_certificate_config_reload_status Fetch(void* files, grpc_ssl_server_certificate_config** config) {
  const std::optional<Pems> pems = static_cast<Files*>(files)->TakeFresh();
  if (!pems.has_value()) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {.private_key = pems->key.c_str(), .cert_chain = pems->cert.c_str()};
  // Authorities must be given even if clients are not asked for certificates.
  const std::string& authorities = pems->client_ca.empty() ? pems->cert : pems->client_ca;
  *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// gRPC's C++ credentials either never reload or, with the file watcher, drop what they had before they know that the
// new files can be used. Its C interface leaves both to the callback.
class Credentials final : public grpc::ServerCredentials {
 public:
  Credentials(std::unique_ptr<Files> files, grpc_ssl_client_certificate_request_type clients)
      : files_(std::move(files)),
        credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, Fetch, files_.get()))) {}
  ~Credentials() override { grpc_server_credentials_release(credentials_); }

  // Keys are looked at by the services (server/gate.h).
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  const std::unique_ptr<Files> files_;
  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsCredentials(const TlsOptions& options) {
  LUKV_ASSIGN_OR_RETURN(std::unique_ptr<Files> files, Files::Open(options));
  return std::make_shared<Credentials>(
      std::move(files), options.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                  : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
}

}  // namespace lukv
