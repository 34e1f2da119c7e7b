// A listening server with a fake model, and what clients do to it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "server/server.h"
#include "tests/server/fake_engine.h"
#include "tests/server/fake_tokenizer.h"
#include "tests/server/test_client.h"

namespace lukv {

// The script of a fake model that says the same to everybody.
FakeEngine::Script Says(std::vector<TokenId> tokens);

class TestServer {
 public:
  struct Options {
    bool loading = false;  // Do not serve yet.
    bool metrics = false;  // The HTTP server takes 2 s to stop.
    bool tokenizer_zip = true;
    // All but the addresses of calls and metrics, which are free ports of loopback.
    NetworkOptions network = {};
  };

  // Any bytes, of several messages.
  static std::string TokenizerZip();

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
  bool has_tokenizer_zip_;
  FakeEngine* engine_ = nullptr;
  std::unique_ptr<Server> server_;
};

}  // namespace lukv
