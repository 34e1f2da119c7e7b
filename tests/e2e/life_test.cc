// The server as a process: what it refuses to start with, its services, how it ends.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/process.h"
#include "tests/server/test_client.h"

namespace lukv {
namespace {

using testing::HasSubstr;

int Lines(const std::string& text) { return static_cast<int>(std::count(text.begin(), text.end(), '\n')); }

v1::GenerateRequest Long(int32_t tokens) {
  v1::GenerateRequest request = TextRequest("Once upon a time", tokens);
  request.set_ignore_eos(true);
  return request;
}

TEST(Start, RefusesAMissingModelInOneLine) {
  Process server("lukv-server", {"--model", "/no/such/model.gguf", "--listen", "127.0.0.1:0", "--metrics-listen", ""});
  EXPECT_EQ(server.Wait(), 1);
  EXPECT_EQ(Lines(server.Stderr()), 1) << server.Stderr();
  EXPECT_THAT(server.Stderr(), HasSubstr("/no/such/model.gguf"));
  EXPECT_EQ(server.Stdout(), "");
}

TEST(Start, RefusesABrokenModelInOneLine) {
  const std::string path = testing::TempDir() + "/lukv-broken-" + std::to_string(getpid()) + ".gguf";
  std::ofstream(path, std::ios::binary) << ReadFileOrEmpty(DemoModelPath()).substr(0, 5'000'000);
  Process server("lukv-server", {"--model", path, "--listen", "127.0.0.1:0", "--metrics-listen", ""});
  EXPECT_EQ(server.Wait(), 1);
  EXPECT_EQ(Lines(server.Stderr()), 1) << server.Stderr();
  EXPECT_THAT(server.Stderr(), HasSubstr(path));
  std::filesystem::remove(path);
}

TEST(Start, RefusesWrongSettingsInOneLine) {
  Process server("lukv-server", {"--model", DemoModelPath(), "--listen", "0.0.0.0:0"});
  EXPECT_EQ(server.Wait(), 2);
  EXPECT_EQ(Lines(server.Stderr()), 1) << server.Stderr();
}

TEST(Start, EveryProgramHasHelpAndVersion) {
  for (const char* program : {"lukv-server", "lukv-client", "lukv-bench"}) {
    Process help(program, {"--help"});
    EXPECT_EQ(help.Wait(), 0) << program;
    EXPECT_THAT(help.Stdout(), testing::AllOf(HasSubstr("Usage: "), HasSubstr(program)));
    EXPECT_EQ(help.Stderr(), "");
    Process version(program, {"--version"});
    EXPECT_EQ(version.Wait(), 0) << program;
    EXPECT_THAT(version.Stdout(), testing::MatchesRegex(".*[0-9]+\\.[0-9]+\\.[0-9]+\n"));
  }
}

// The reflection service is called with hand-made bytes: its .proto is not in the distribution.
std::string ListServices(const std::string& address) {
  grpc::GenericStub stub(NewChannel(address));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto next = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call =
      stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  EXPECT_TRUE(next());
  const grpc::Slice request(std::string("\x3a\x00", 2));  // list_services = 7: ""
  call->WriteLast(grpc::ByteBuffer(&request, 1), grpc::WriteOptions(), nullptr);
  EXPECT_TRUE(next());
  grpc::ByteBuffer reply;
  call->Read(&reply, nullptr);
  EXPECT_TRUE(next());
  grpc::Status status;
  call->Finish(&status, nullptr);
  EXPECT_TRUE(next());
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(reply.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

TEST(Services, HealthAndReflectionAreOn) {
  const ServerProcess server;
  const std::string services = ListServices(server.address());
  EXPECT_THAT(services, HasSubstr("lukv.v1.Inference"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
  const auto stub = grpc::health::v1::Health::NewStub(NewChannel(server.address()));
  for (const char* service : {"", "lukv.v1.Inference"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(stub->Check(&context, request, &response).ok()) << service;
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING) << service;
  }
}

TEST(Limits, RefusesWhatTheQueueCannotHold) {
  ServerProcess server({"--max-sequences", "1", "--max-queued-requests", "1"});
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  const auto start = [&] {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub->Generate(contexts.back().get(), Long(8000)));
  };
  start();
  v1::GenerateResponse message;
  ASSERT_TRUE(readers[0]->Read(&message));  // It runs.
  start();
  while (server.Metric("vllm:num_requests_waiting") != 1) continue;
  const Read third = ReadAll(*stub, Long(10));
  EXPECT_EQ(third.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(third.status), "QUEUE_FULL");
  EXPECT_TRUE(SaysWhenToRetry(third.status));
  for (const auto& context : contexts) context->TryCancel();
}

TEST(Limits, RefusesWhatNeverFits) {
  const ServerProcess server({"--kv-memory", "4MiB"});  // 256 pages; 100 tokens need 180.
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  const Read read = ReadAll(*stub, Long(1000));
  EXPECT_EQ(read.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(read.status), "NEVER_FITS");
  EXPECT_FALSE(SaysWhenToRetry(read.status));
  EXPECT_TRUE(ReadAll(*stub, Long(100)).status.ok());
}

TEST(Stop, LetsARunningRequestFinish) {
  ServerProcess server;
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Long(300));
  Read read;
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server.process().Signal(SIGTERM);
  do {
    read.messages.push_back(message);
  } while (reader->Read(&message));
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(read.Tokens().size(), 300u);
  EXPECT_EQ(server.process().Wait(), 0) << server.process().Stderr();
  EXPECT_THAT(server.process().Stderr(), testing::Not(HasSubstr("Once upon"))) << "prompts do not belong in the log";
}

TEST(Stop, EndsWhatIsNotDoneInTime) {
  ServerProcess server({"--drain-timeout", "100ms"});
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Long(8000));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server.process().Signal(SIGINT);
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(server.process().Wait(), 0) << server.process().Stderr();
}

TEST(Stop, ASecondSignalEndsAtOnce) {
  ServerProcess server({"--drain-timeout", "1h"});
  const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Long(8000));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server.process().Signal(SIGTERM);
  while (server.process().Stderr().find("shutting down") == std::string::npos) continue;
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 128 + SIGTERM);
}

}  // namespace
}  // namespace lukv
