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

// Of a call that has just come: takes its part of the caller's calls at once, before anything is computed for it. Its
// prompt's tokens are to be queued (Gate::Queue) as soon as they are known. Not OK: the call is to be ended with this.
grpc::Status MakeOrigin(grpc::CallbackServerContext& context, const Caller& caller, CallOrigin& origin);

// W3C Trace Context (https://www.w3.org/TR/trace-context/, version 00): "00-<trace id>-<parent id>-<flags>".
bool IsTraceparent(const std::string& text);

}  // namespace lukv
