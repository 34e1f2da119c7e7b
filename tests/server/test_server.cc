#include "tests/server/test_server.h"

#include <gtest/gtest.h>

#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/log.h"
#include "tests/server/http_get.h"

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

FakeEngine::Script Says(std::vector<TokenId> tokens) {
  return [tokens = std::move(tokens)](const ValidRequest&, int32_t) { return tokens; };
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

TestServer::TestServer(FakeEngine::Script script) : TestServer(std::move(script), Options()) {}

TestServer::TestServer(FakeEngine::Script script, Options options) : script_(std::move(script)) {
  InitLog(LogLevel::kOff);
  NetworkOptions network;
  network.listen = "127.0.0.1:0";
  network.metrics_listen = options.metrics ? "127.0.0.1:0" : "";
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Listen(network, "fake-model");
  EXPECT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  if (!options.loading) Serve();
}

void TestServer::Serve() {
  ServedModel model{.name = "fake-model", .max_sequences = 4, .page_tokens = 64};
  model.tokenizer = std::make_unique<FakeTokenizer>();
  auto engine = std::make_unique<FakeEngine>(model.tokenizer->end_tokens(), script_);
  engine_ = engine.get();
  model.engine = std::move(engine);
  server_->Serve(std::move(model));
}

std::shared_ptr<grpc::Channel> TestServer::Channel() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments);
}

std::unique_ptr<v1::Inference::Stub> TestServer::Stub() const { return v1::Inference::NewStub(Channel()); }

std::string TestServer::Metrics() const { return HttpGet(server_->metrics_address(), "/metrics"); }

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
