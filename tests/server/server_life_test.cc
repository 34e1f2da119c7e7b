// A server's life: loading, health, draining; and that what it listens on is its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/test_server.h"
#include "vllm_engine.grpc.pb.h"

namespace lukv {
namespace {

using grpc::health::v1::HealthCheckResponse;
using testing::HasSubstr;

HealthCheckResponse::ServingStatus HealthAt(const std::string& address, const std::string& service) {
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  HealthCheckResponse response;
  const auto stub = grpc::health::v1::Health::NewStub(NewChannel(address));
  EXPECT_TRUE(stub->Check(&context, request, &response).ok());
  return response.status();
}

HealthCheckResponse::ServingStatus HealthOf(TestServer& server, const std::string& service) {
  return HealthAt(server.server().address(), service);
}

constexpr char kService[] = "lukv.v1.Inference";

TEST(ServerLife, IsAliveButNotReadyWhileLoading) {
  TestServer server(Says({'a'}), {.loading = true});
  EXPECT_EQ(HealthOf(server, ""), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf(server, kService), HealthCheckResponse::NOT_SERVING);
  const Read early = ReadAll(*server.Stub(), TextRequest("hi", 1));
  EXPECT_EQ(early.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(early.status), "MODEL_LOADING");
  EXPECT_TRUE(SaysWhenToRetry(early.status));
  grpc::ClientContext context;
  v1::GetModelResponse model;
  EXPECT_EQ(server.Stub()->GetModel(&context, v1::GetModelRequest(), &model).error_code(), grpc::UNAVAILABLE);

  server.Serve();
  EXPECT_EQ(HealthOf(server, kService), HealthCheckResponse::SERVING);
  EXPECT_TRUE(ReadAll(*server.Stub(), TextRequest("hi", 1)).status.ok());
}

TEST(ServerLife, DrainLetsRunningCallsFinishAndRefusesNewOnes) {
  TestServer server(Says(std::vector<TokenId>(30, 'a')));
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, TextRequest("hi", 30));
  while (server.engine().Stats().running == 0) std::this_thread::yield();

  std::thread drain([&] { server.server().Drain(absl::InfiniteDuration()); });
  while (HealthOf(server, kService) == HealthCheckResponse::SERVING) std::this_thread::yield();
  EXPECT_EQ(HealthOf(server, ""), HealthCheckResponse::SERVING);
  Read late = ReadAll(*server.Stub(), TextRequest("hi", 1));
  EXPECT_EQ(late.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(late.status), "SHUTTING_DOWN");

  server.engine().SetGate(true);
  Read read;
  for (v1::GenerateResponse message; reader->Read(&message);) read.messages.push_back(message);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(read.Text(), std::string(30, 'a'));
  drain.join();
}

TEST(ServerLife, WhatStillRunsInADrainCanBeAborted) {
  TestServer server(Says(std::vector<TokenId>(900, 'a')));
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  grpc::ClientContext context;
  v1::GenerateRequest request = TextRequest("hi", 900);
  request.set_request_id("long");
  const auto reader = stub->Generate(&context, request);
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  std::thread drain([&] { server.server().Drain(absl::InfiniteDuration()); });
  while (HealthOf(server, kService) == HealthCheckResponse::SERVING) std::this_thread::yield();
  grpc::ClientContext aborting;
  vllm::grpc::engine::AbortRequest abort;
  abort.add_request_ids("long");
  vllm::grpc::engine::AbortResponse response;
  EXPECT_TRUE(vllm::grpc::engine::VllmEngine::NewStub(server.Channel())->Abort(&aborting, abort, &response).ok());
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  drain.join();
}

TEST(ServerLife, DrainEndsWhatIsNotDoneInTime) {
  TestServer server(Says(std::vector<TokenId>(900, 'a')));
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, TextRequest("hi", 900));
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  std::thread drain([&] { server.server().Drain(absl::Milliseconds(20)); });
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("drain timeout"));
  EXPECT_EQ(ReasonOf(status), "SHUTTING_DOWN");
  EXPECT_TRUE(SaysWhenToRetry(status));
  drain.join();
}

v1::GenerateRequest Bulky(int32_t tokens) {
  v1::GenerateRequest request = TextRequest("hi", tokens);
  request.set_logprobs(true);
  request.set_top_logprobs(20);
  return request;
}

TEST(ServerLife, DrainDoesNotWaitForAClientThatDoesNotRead) {
  constexpr int32_t kTokens = 900;
  TestServer server(Says(std::vector<TokenId>(kTokens, 'a')));
  const auto stub = server.Stub();
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Bulky(kTokens));
  ASSERT_TRUE(server.engine().WaitUntilParkedOr(kTokens));
  server.server().Drain(absl::ZeroDuration());
  EXPECT_EQ(server.engine().Stats().running, 0);
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_FALSE(reader->Finish().ok());
}

TEST(ServerLife, AClientThatTakesNothingIsLetGoOf) {
  constexpr int32_t kTokens = 900;
  TestServer server(Says(std::vector<TokenId>(kTokens, 'a')));
  const auto stub = server.Stub();
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Bulky(kTokens));
  ASSERT_TRUE(server.engine().WaitUntilParkedOr(kTokens));
  server.engine().GiveUpParked();
  // Nothing is read before the call has left the server.
  server.server().Drain(absl::InfiniteDuration());
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_FALSE(reader->Finish().ok());
}

TEST(ServerLife, HealthHasAnAddressOfItsOwn) {
  NetworkOptions network;
  network.health_listen = "127.0.0.1:0";
  TestServer server(Says({'a'}), {.loading = true, .network = network});
  const std::string address = server.server().health_address();
  EXPECT_NE(address, server.server().address());
  EXPECT_EQ(HealthAt(address, ""), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthAt(address, kService), HealthCheckResponse::NOT_SERVING);
  server.Serve();
  EXPECT_EQ(HealthAt(address, kService), HealthCheckResponse::SERVING);
  EXPECT_EQ(HealthOf(server, kService), HealthCheckResponse::SERVING);
  const Read read = ReadAll(*v1::Inference::NewStub(NewChannel(address)), TextRequest("hi", 1));
  EXPECT_EQ(read.status.error_code(), grpc::UNIMPLEMENTED);
  server.server().Drain(absl::ZeroDuration());
  EXPECT_EQ(HealthAt(address, kService), HealthCheckResponse::NOT_SERVING);
}

TEST(ServerLife, AStuckStepIsNoLife) {
  NetworkOptions network;
  network.watchdog = absl::Milliseconds(20);
  TestServer server(Says({'a'}), {.network = network});
  EXPECT_EQ(HealthOf(server, ""), HealthCheckResponse::SERVING);
  server.engine().SetStepAge(absl::Milliseconds(21));
  while (HealthOf(server, "") == HealthCheckResponse::SERVING) std::this_thread::yield();
  EXPECT_EQ(HealthOf(server, kService), HealthCheckResponse::SERVING) << "it may move again";
  server.engine().SetStepAge(absl::Milliseconds(20));
  while (HealthOf(server, "") != HealthCheckResponse::SERVING) std::this_thread::yield();
}

TEST(ServerLife, ATakenPortIsAnError) {
  TestServer server(Says({'a'}), {.metrics = true});
  NetworkOptions options;
  options.listen = server.server().address();
  options.metrics_listen = "";
  const auto second = Server::Listen(options, "other");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.listen));
  options.listen = "127.0.0.1:0";
  options.metrics_listen = server.server().metrics_address();
  const auto third = Server::Listen(options, "other");
  EXPECT_EQ(third.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(third.status().message()), HasSubstr(options.metrics_listen));
}

TEST(ServerLife, ShowsMetrics) {
  TestServer server(Says(Bytes("abc")), {.metrics = true});
  EXPECT_TRUE(ReadAll(*server.Stub(), TextRequest("hi", 3)).status.ok());
  EXPECT_FALSE(ReadAll(*server.Stub(), TextRequest("", 3)).status.ok());
  const std::string page = server.Metrics();
  for (const char* line :
       {"vllm:num_requests_running{engine=\"0\",model_name=\"fake-model\"} 0",
        "vllm:request_success_total{engine=\"0\",model_name=\"fake-model\",finished_reason=\"length\"} 1",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"fake-model\"} 1",
        "vllm:inter_token_latency_seconds_count{engine=\"0\",model_name=\"fake-model\"} 2",
        "vllm:request_prompt_tokens_sum{engine=\"0\",model_name=\"fake-model\"} 3",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"fake-model\"} 3",
        "lukv_requests_refused_total{engine=\"0\",model_name=\"fake-model\",reason=\"invalid_request\"} 1"}) {
    EXPECT_TRUE(page.find(line) != std::string::npos) << line;
  }
}

}  // namespace
}  // namespace lukv
