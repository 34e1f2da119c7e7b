// Where a call came from: what of it goes along with its request.
#pragma once

#include <grpcpp/server_context.h>

#include <functional>
#include <string>

#include "server/api_keys.h"

namespace lukv {

struct CallOrigin {
  KeyUse key;               // The call's share of its key's limits.
  std::string traceparent;  // As the client sent it, "" if that was none.
  // Ends the call on the wire, also while a write waits for a client that does not read. Null: cannot be done.
  std::function<void()> cut = nullptr;
};

// Takes the caller's limits for a call with so many prompt tokens. Not OK: the call is to be ended with this.
grpc::Status MakeOrigin(grpc::CallbackServerContext& context, const Caller& caller, int64_t prompt_tokens,
                        CallOrigin& origin);

// W3C Trace Context (https://www.w3.org/TR/trace-context/, version 00): "00-<trace id>-<parent id>-<flags>".
bool IsTraceparent(const std::string& text);

}  // namespace lukv
