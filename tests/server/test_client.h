// What tests do to a server over gRPC, whichever it is.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lukv/v1/inference.grpc.pb.h"

namespace lukv {

// A connection of its own. A client on it that does not read has 64 KiB sent to it, however fast the connection looks.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address);

// An answer read to its end.
struct Read {
  std::vector<v1::GenerateResponse> messages;
  grpc::Status status;

  std::string Text(int32_t index = 0) const;
  std::vector<int32_t> Tokens(int32_t index = 0) const;
  std::vector<v1::Finish> Finishes() const;
};

v1::GenerateRequest TextRequest(const std::string& text, int32_t max_tokens);
Read ReadAll(v1::Inference::Stub& stub, const v1::GenerateRequest& request);
Read ReadAll(v1::Inference::Stub& stub, const v1::GenerateRequest& request, grpc::ClientContext& context);

// From the status's details: ErrorInfo's reason ("" if there is none), BadRequest's fields, whether there is a
// RetryInfo.
std::string ReasonOf(const grpc::Status& status);
std::vector<std::string> ViolatedFields(const grpc::Status& status);
bool SaysWhenToRetry(const grpc::Status& status);
}  // namespace lukv
