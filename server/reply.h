// Answers of unary calls that are known at once.
#pragma once

#include <grpcpp/support/server_callback.h>

namespace lukv {

inline grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace lukv
