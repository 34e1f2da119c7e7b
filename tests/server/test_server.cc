#include "tests/server/test_server.h"

#include <gtest/gtest.h>

#include <utility>

#include "server/log.h"
#include "tests/server/http_get.h"

namespace lukv {

FakeEngine::Script Says(std::vector<TokenId> tokens) {
  return [tokens = std::move(tokens)](const ValidRequest&, int32_t) { return tokens; };
}

TestServer::TestServer(FakeEngine::Script script) : TestServer(std::move(script), Options()) {}

std::string TestServer::TokenizerZip() { return std::string(300'000, 'z') + std::string(300'000, 'i'); }

TestServer::TestServer(FakeEngine::Script script, Options options)
    : script_(std::move(script)), has_tokenizer_zip_(options.tokenizer_zip) {
  InitLog(LogLevel::kOff, LogFormat::kText);
  NetworkOptions network = options.network;
  network.listen = "127.0.0.1:0";
  network.metrics_listen = options.metrics ? "127.0.0.1:0" : "";
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Listen(network, "fake-model");
  EXPECT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  if (!options.loading) Serve();
}

void TestServer::Serve() {
  ServedModel model{.name = "fake-model",
                    .path = "/models/fake",
                    .max_sequences = 4,
                    .page_tokens = 64,
                    .default_policy = *ParsePolicy("uniform+keydiff@0.5"),
                    .tail = 7,
                    .chat_tail = 9};
  if (has_tokenizer_zip_) model.tokenizer_zip = TokenizerZip();
  model.tokenizer = std::make_unique<FakeTokenizer>();
  auto engine = std::make_unique<FakeEngine>(model.tokenizer->end_tokens(), script_);
  engine_ = engine.get();
  model.engine = std::move(engine);
  server_->Serve(std::move(model));
}

std::shared_ptr<grpc::Channel> TestServer::Channel() const { return NewChannel(server_->address()); }

std::unique_ptr<v1::Inference::Stub> TestServer::Stub() const { return v1::Inference::NewStub(Channel()); }

std::string TestServer::Metrics() const { return HttpGet(server_->metrics_address(), "/metrics"); }

}  // namespace lukv
