// A listening server with a fake model, and what clients do to it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "lukv/v1/inference.grpc.pb.h"
#include "server/server.h"
#include "tests/server/fake_engine.h"
#include "tests/server/fake_tokenizer.h"

namespace lukv {

// The script of a fake model that says the same to everybody.
FakeEngine::Script Says(std::vector<TokenId> tokens);

// An answer read to its end.
struct Read {
  std::vector<v1::GenerateResponse> messages;
  grpc::Status status;

  std::string Text(int32_t index = 0) const;
  std::vector<int32_t> Tokens(int32_t index = 0) const;
  std::vector<v1::Finish> Finishes() const;
};

class TestServer {
 public:
  struct Options {
    bool loading = false;  // Do not serve yet.
    bool metrics = false;  // The HTTP server takes 2 s to stop.
  };

  // Listens on loopback.
  explicit TestServer(FakeEngine::Script script);
  TestServer(FakeEngine::Script script, Options options);

  void Serve();
  // REQUIRES: serving.
  FakeEngine& engine() { return *engine_; }
  Server& server() { return *server_; }
  // A stub on a connection of its own.
  std::unique_ptr<v1::Inference::Stub> Stub() const;
  std::shared_ptr<grpc::Channel> Channel() const;
  std::string Metrics() const;

 private:
  FakeEngine::Script script_;
  FakeEngine* engine_ = nullptr;
  std::unique_ptr<Server> server_;
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
