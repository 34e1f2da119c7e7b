// Who may call: what a service asks at the top of each of its methods.
#pragma once

#include <grpcpp/server_context.h>

#include <memory>
#include <utility>

#include "server/api_keys.h"

namespace lukv {

// Any thread may call any method.
class Gate {
 public:
  // No keys: anybody may call. `plaintext_is_exempt`: so may who comes over a listener without TLS.
  Gate(std::unique_ptr<ApiKeys> keys, bool plaintext_is_exempt)
      : keys_(std::move(keys)), plaintext_is_exempt_(plaintext_is_exempt) {}

  // The call brings its key as the metadata "authorization: Bearer KEY". Not OK: to be ended with this,
  // UNAUTHENTICATED with its reason, before anything of the request is looked at.
  grpc::Status Enter(const grpc::ServerContextBase& context, Caller& caller) const;

  // The share of a caller's limits that a call takes, to be kept as long as the call is there. Not OK: to be ended with
  // this, RESOURCE_EXHAUSTED with the reason KEY_LIMIT.
  static grpc::Status Begin(const Caller& caller, KeyUse& use);
  static grpc::Status Queue(KeyUse& use, int64_t prompt_tokens);

 private:
  const std::unique_ptr<ApiKeys> keys_;
  const bool plaintext_is_exempt_;
};

}  // namespace lukv
