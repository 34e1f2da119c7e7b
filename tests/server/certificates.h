// Certificates for tests, made when they are needed.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>

namespace lukv {

struct PemPair {
  std::string cert;
  std::string key;
};

// An authority of its own kind: nothing that one signs counts for another.
class TestAuthority {
 public:
  TestAuthority();
  ~TestAuthority();

  const std::string& pem() const { return pem_; }
  // For 127.0.0.1 and localhost; good for servers and clients.
  PemPair Issue() const;

 private:
  EVP_PKEY* key_ = nullptr;
  X509* certificate_ = nullptr;
  std::string pem_;
};

}  // namespace lukv
