#include "tests/server/test_client.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace lukv {
namespace {

template <typename T>
bool FindDetail(const grpc::Status& status, T& detail) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return false;
  for (const google::protobuf::Any& any : details.details()) {
    if (any.UnpackTo(&detail)) return true;
  }
  return false;
}

}  // namespace

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

std::string Read::Text(int32_t index) const {
  std::string text;
  for (const v1::GenerateResponse& message : messages) {
    for (const v1::Delta& delta : message.deltas()) {
      if (delta.index() == index) text += delta.text();
    }
  }
  return text;
}

std::vector<int32_t> Read::Tokens(int32_t index) const {
  std::vector<int32_t> tokens;
  for (const v1::GenerateResponse& message : messages) {
    for (const v1::Delta& delta : message.deltas()) {
      if (delta.index() == index) tokens.insert(tokens.end(), delta.token_ids().begin(), delta.token_ids().end());
    }
  }
  return tokens;
}

std::vector<v1::Finish> Read::Finishes() const {
  std::vector<v1::Finish> finishes;
  for (const v1::GenerateResponse& message : messages) {
    finishes.insert(finishes.end(), message.finishes().begin(), message.finishes().end());
  }
  return finishes;
}

v1::GenerateRequest TextRequest(const std::string& text, int32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.set_max_tokens(max_tokens);
  return request;
}

Read ReadAll(v1::Inference::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  return ReadAll(stub, request, context);
}

Read ReadAll(v1::Inference::Stub& stub, const v1::GenerateRequest& request, grpc::ClientContext& context) {
  Read read;
  const auto reader = stub.Generate(&context, request);
  for (v1::GenerateResponse message; reader->Read(&message);) read.messages.push_back(message);
  read.status = reader->Finish();
  return read;
}

std::string ReasonOf(const grpc::Status& status) {
  google::rpc::ErrorInfo info;
  return FindDetail(status, info) && info.domain() == "lukv" ? info.reason() : "";
}

std::vector<std::string> ViolatedFields(const grpc::Status& status) {
  google::rpc::BadRequest bad_request;
  FindDetail(status, bad_request);
  std::vector<std::string> fields;
  for (const auto& violation : bad_request.field_violations()) fields.push_back(violation.field());
  return fields;
}

bool SaysWhenToRetry(const grpc::Status& status) {
  google::rpc::RetryInfo retry;
  return FindDetail(status, retry) && retry.retry_delay().seconds() > 0;
}

}  // namespace lukv
