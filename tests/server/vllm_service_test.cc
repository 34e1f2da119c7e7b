// Calls of the gateways' protocol to a server with a fake model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "base/sha256.h"
#include "base/version.h"
#include "engine/refusal.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/test_server.h"
#include "vllm_engine.grpc.pb.h"

namespace lukv {
namespace {

namespace pb = vllm::grpc::engine;
namespace common = smg::grpc::common;
using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<pb::VllmEngine::Stub> StubOf(const TestServer& server) {
  return pb::VllmEngine::NewStub(server.Channel());
}

pb::GenerateRequest Request(int32_t max_tokens, bool stream = false) {
  pb::GenerateRequest request;
  for (const TokenId id : Bytes("hi")) request.mutable_tokenized()->add_input_ids(static_cast<uint32_t>(id));
  request.mutable_sampling_params()->set_max_tokens(static_cast<uint32_t>(max_tokens));
  request.set_stream(stream);
  return request;
}

struct Answer {
  std::vector<pb::GenerateStreamChunk> chunks;
  std::vector<pb::GenerateComplete> completes;
  bool chunk_after_complete = false;
  grpc::Status status;

  void Add(const pb::GenerateResponse& message) {
    if (message.has_chunk()) {
      chunk_after_complete |= !completes.empty();
      chunks.push_back(message.chunk());
    } else {
      completes.push_back(message.complete());
    }
  }
  // The tokens of a sample, out of its chunks.
  std::vector<uint32_t> Streamed(uint32_t index) const {
    std::vector<uint32_t> ids;
    for (const auto& chunk : chunks) {
      if (chunk.index() == index) ids.insert(ids.end(), chunk.token_ids().begin(), chunk.token_ids().end());
    }
    return ids;
  }
};

Answer Read(grpc::ClientReader<pb::GenerateResponse>& reader) {
  Answer answer;
  for (pb::GenerateResponse message; reader.Read(&message);) answer.Add(message);
  answer.status = reader.Finish();
  return answer;
}

Answer Ask(const TestServer& server, const pb::GenerateRequest& request, const std::string& eviction = "") {
  grpc::ClientContext context;
  if (!eviction.empty()) context.AddMetadata("x-lukv-eviction", eviction);
  const auto stub = StubOf(server);
  return Read(*stub->Generate(&context, request));
}

TEST(VllmGenerate, OneCompleteHasEverything) {
  TestServer server(Says({'a', FakeTokenizer::kHello, FakeTokenizer::kEnd}));
  const Answer answer = Ask(server, Request(10));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.chunks.empty());
  ASSERT_EQ(answer.completes.size(), 1u);
  const pb::GenerateComplete& complete = answer.completes[0];
  EXPECT_THAT(complete.output_ids(), ElementsAre('a', FakeTokenizer::kHello, FakeTokenizer::kEnd));
  EXPECT_EQ(complete.finish_reason(), "stop");
  EXPECT_EQ(complete.matched_token_id(), static_cast<uint32_t>(FakeTokenizer::kEnd));
  EXPECT_EQ(complete.prompt_tokens(), 2u);
  EXPECT_EQ(complete.completion_tokens(), 3u);
  EXPECT_EQ(complete.cached_tokens(), static_cast<uint32_t>(FakeEngine::kCachedTokens));
  EXPECT_EQ(complete.index(), 0u);
  EXPECT_FALSE(complete.has_output_logprobs());
}

TEST(VllmGenerate, AStreamHasNewTokensThenACompleteWithoutThem) {
  TestServer server(Says(Bytes("abcdef")));
  const Answer answer = Ask(server, Request(4, /*stream=*/true));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.Streamed(0), ElementsAre('a', 'b', 'c', 'd'));
  uint32_t so_far = 0;
  for (const auto& chunk : answer.chunks) {
    so_far += static_cast<uint32_t>(chunk.token_ids_size());
    EXPECT_EQ(chunk.completion_tokens(), so_far);
    EXPECT_EQ(chunk.prompt_tokens(), 2u);
  }
  ASSERT_EQ(answer.completes.size(), 1u);
  EXPECT_FALSE(answer.chunk_after_complete);
  EXPECT_EQ(answer.completes[0].output_ids_size(), 0);
  EXPECT_EQ(answer.completes[0].completion_tokens(), 4u);
  EXPECT_EQ(answer.completes[0].finish_reason(), "length");
  EXPECT_EQ(answer.completes[0].matched_stop_case(), pb::GenerateComplete::MATCHED_STOP_NOT_SET);
}

TEST(VllmGenerate, StopStringsAreEnforced) {
  for (const bool stream : {false, true}) {
    std::vector<TokenId> endless(900, 'z');
    endless[1] = FakeTokenizer::kHello;
    endless[2] = 'w';
    TestServer server(Says(endless));
    pb::GenerateRequest request = Request(900, stream);
    request.mutable_sampling_params()->add_stop("o w");
    const Answer answer = Ask(server, request);
    ASSERT_TRUE(answer.status.ok());
    ASSERT_EQ(answer.completes.size(), 1u);
    const auto& ids = answer.completes[0].output_ids();
    EXPECT_THAT(stream ? answer.Streamed(0) : std::vector<uint32_t>(ids.begin(), ids.end()),
                ElementsAre('z', FakeTokenizer::kHello, 'w'));
    EXPECT_EQ(answer.completes[0].finish_reason(), "stop");
    EXPECT_EQ(answer.completes[0].matched_stop_str(), "o w");
    EXPECT_EQ(answer.completes[0].completion_tokens(), 3u);
  }
}

TEST(VllmGenerate, SpecialTokensAreTextUnlessSkipped) {
  TestServer server(Says({'a', FakeTokenizer::kBos, 'b', 'c'}));
  pb::GenerateRequest request = Request(4);
  request.mutable_sampling_params()->add_stop("<s>");
  EXPECT_EQ(Ask(server, request).completes[0].matched_stop_str(), "<s>");
  request.mutable_sampling_params()->set_skip_special_tokens(true);
  EXPECT_EQ(Ask(server, request).completes[0].finish_reason(), "length");
}

TEST(VllmGenerate, StopIdsIgnoreEosAndMinTokens) {
  TestServer server(Says({'a', FakeTokenizer::kEnd, 'b', 'c'}));
  pb::GenerateRequest request = Request(4);
  request.mutable_sampling_params()->set_ignore_eos(true);
  request.mutable_sampling_params()->add_stop_token_ids('b');
  const Answer answer = Ask(server, request);
  EXPECT_THAT(answer.completes[0].output_ids(), ElementsAre('a', FakeTokenizer::kEnd, 'b'));
  EXPECT_EQ(answer.completes[0].matched_token_id(), static_cast<uint32_t>('b'));

  request = Request(4);
  request.mutable_sampling_params()->set_ignore_eos(true);
  request.mutable_sampling_params()->add_stop("a");
  request.mutable_sampling_params()->set_min_tokens(2);
  EXPECT_EQ(Ask(server, request).completes[0].finish_reason(), "length") << "the stop string is before min_tokens";
}

TEST(VllmGenerate, SamplesHaveIndexes) {
  for (const bool stream : {false, true}) {
    TestServer server(
        [](const ValidRequest&, int32_t sample) { return Bytes(sample == 0 ? "abc STOP" : "xyzxyzxyz"); });
    pb::GenerateRequest request = Request(9, stream);
    request.mutable_sampling_params()->set_n(2);
    request.mutable_sampling_params()->add_stop("ST");
    const Answer answer = Ask(server, request);
    ASSERT_EQ(answer.completes.size(), 2u);
    EXPECT_FALSE(answer.chunk_after_complete);
    for (uint32_t i = 0; i < 2; ++i) {
      EXPECT_EQ(answer.completes[i].index(), i);
      EXPECT_EQ(answer.completes[i].finish_reason(), i == 0 ? "stop" : "length");
      EXPECT_EQ(answer.completes[i].completion_tokens(), i == 0 ? 6u : 9u);
      const auto& ids = answer.completes[i].output_ids();
      const std::vector<uint32_t> tokens = stream ? answer.Streamed(i) : std::vector<uint32_t>(ids.begin(), ids.end());
      const std::vector<TokenId> expected = Bytes(i == 0 ? "abc ST" : "xyzxyzxyz");
      EXPECT_THAT(tokens, testing::ElementsAreArray(expected));
    }
  }
}

TEST(VllmGenerate, LogprobsComeWithTheTokens) {
  for (const bool stream : {false, true}) {
    TestServer server(Says(Bytes("ab")));
    pb::GenerateRequest request = Request(2, stream);
    request.mutable_sampling_params()->set_logprobs(2);
    const Answer answer = Ask(server, request);
    pb::OutputLogProbs all;
    for (const auto& chunk : answer.chunks) {
      EXPECT_EQ(chunk.output_logprobs().token_ids_size(), chunk.token_ids_size());
      all.MergeFrom(chunk.output_logprobs());
    }
    ASSERT_EQ(answer.completes.size(), 1u);
    EXPECT_EQ(answer.completes[0].has_output_logprobs(), !stream);
    if (!stream) all = answer.completes[0].output_logprobs();
    EXPECT_THAT(all.token_ids(), ElementsAre('a', 'b'));
    EXPECT_THAT(all.token_logprobs(), ElementsAre(-0.5f, -0.5f));
    ASSERT_EQ(all.top_logprobs_size(), 2);
    EXPECT_THAT(all.top_logprobs(1).token_ids(), ElementsAre(0, 1));
    EXPECT_THAT(all.top_logprobs(1).values(), ElementsAre(-1.0f, -2.0f));
  }
}

TEST(VllmGenerate, ErrorsHaveTheirCodesAndDetails) {
  TestServer server(Says({'a'}));
  Answer answer = Ask(server, Request(100'000));
  EXPECT_EQ(answer.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(answer.status), ElementsAre("sampling_params.max_tokens"));

  pb::GenerateRequest request = Request(1);
  request.mutable_sampling_params()->set_json_object(true);
  answer = Ask(server, request);
  EXPECT_EQ(answer.status.error_code(), grpc::UNIMPLEMENTED);
  EXPECT_EQ(ReasonOf(answer.status), "UNIMPLEMENTED");
  EXPECT_THAT(answer.status.error_message(), HasSubstr("structured output"));

  server.engine().RefuseNext(Refused(Refusal::kQueueFull, "full", absl::Seconds(3)));
  answer = Ask(server, Request(1));
  EXPECT_EQ(answer.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(answer.status), "QUEUE_FULL");
  EXPECT_TRUE(SaysWhenToRetry(answer.status));
  EXPECT_TRUE(answer.completes.empty());

  server.engine().RefuseNext(absl::InternalError("broken"));
  EXPECT_EQ(Ask(server, Request(1)).status.error_code(), grpc::INTERNAL);
}

TEST(VllmGenerate, TheDeadlineEndsIt) {
  TestServer server(Says(Bytes("abc")));
  server.engine().SetGate(false);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(50)));
  const auto stub = StubOf(server);
  EXPECT_EQ(Read(*stub->Generate(&context, Request(3))).status.error_code(), grpc::DEADLINE_EXCEEDED);
}

// Metadata and requests of both protocols that name policies, and which is taken.
std::string PolicyTaken(const v1::GenerateRequest& request, const std::string& metadata, const TestServer& server) {
  grpc::ClientContext context;
  if (!metadata.empty()) context.AddMetadata("x-lukv-eviction", metadata);
  const auto stub = server.Stub();
  const lukv::Read read = ReadAll(*stub, request, context);
  EXPECT_TRUE(read.status.ok()) << read.status.error_message();
  return read.status.ok() ? read.messages.back().usage().policy() : "";
}

TEST(Eviction, MetadataChooseThePolicyWhereTheRequestDoesNot) {
  TestServer server(Says({'a'}));
  EXPECT_EQ(PolicyTaken(TextRequest("hi", 1), "", server), "uniform+keydiff@0.5");
  EXPECT_EQ(PolicyTaken(TextRequest("hi", 1), "uniform+knorm@0.25", server), "uniform+knorm@0.25");
  v1::GenerateRequest named = TextRequest("hi", 1);
  named.set_policy("full");
  EXPECT_EQ(PolicyTaken(named, "uniform+knorm@0.25", server), "full");
}

TEST(Eviction, MetadataReachTheEngineThroughTheGatewaysProtocol) {
  std::shared_ptr<const EvictionPlan> plan;
  TestServer server([&plan](const ValidRequest& request, int32_t) {
    plan = request.plan;
    return Bytes("a");
  });
  pb::GenerateRequest request = Request(1);
  for (int i = 0; i < 30; ++i) request.mutable_tokenized()->add_input_ids('x');
  EXPECT_TRUE(Ask(server, request).status.ok());
  ASSERT_NE(plan, nullptr) << "the server's own policy";
  EXPECT_EQ(plan->n_tokens(), 32 - 7) << "all but the server's tail";
  EXPECT_TRUE(Ask(server, request, "full").status.ok());
  EXPECT_EQ(plan, nullptr);
}

TEST(Eviction, WrongMetadataAreRefused) {
  TestServer server(Says({'a'}));
  // Not a policy; one that this model has no curve for.
  for (const char* wrong : {"nonsense", "lukv+expected_attention@0.8"}) {
    const Answer answer = Ask(server, Request(1), wrong);
    EXPECT_EQ(answer.status.error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_THAT(ViolatedFields(answer.status), ElementsAre("x-lukv-eviction"));
  }
  grpc::ClientContext twice;
  twice.AddMetadata("x-lukv-eviction", "full");
  twice.AddMetadata("x-lukv-eviction", "full");
  const lukv::Read read = ReadAll(*server.Stub(), TextRequest("hi", 1), twice);
  EXPECT_THAT(ViolatedFields(read.status), ElementsAre("x-lukv-eviction"));
  grpc::ClientContext context;
  context.AddMetadata("x-lukv-eviction", "nonsense");
  v1::CreateContextRequest request;
  request.set_context_text("some words");
  v1::CreateContextResponse response;
  EXPECT_THAT(ViolatedFields(server.Stub()->CreateContext(&context, request, &response)),
              ElementsAre("x-lukv-eviction"));
}

// Waits until the engine has so many requests.
void WaitForRunning(TestServer& server, int32_t running) {
  while (server.engine().Stats().running != running) std::this_thread::yield();
}

grpc::Status AbortRequests(const TestServer& server, const std::vector<std::string>& ids) {
  grpc::ClientContext context;
  pb::AbortRequest request;
  request.mutable_request_ids()->Assign(ids.begin(), ids.end());
  pb::AbortResponse response;
  return StubOf(server)->Abort(&context, request, &response);
}

TEST(VllmAbort, EndsTheRequestWithWhatItHas) {
  for (const bool stream : {false, true}) {
    TestServer server(Says(Bytes("abc")));
    server.engine().SetGate(false);
    pb::GenerateRequest request = Request(3, stream);
    request.set_request_id("one");
    request.mutable_sampling_params()->set_n(2);
    grpc::ClientContext context;
    const auto stub = StubOf(server);
    const auto reader = stub->Generate(&context, request);
    WaitForRunning(server, 1);
    EXPECT_TRUE(AbortRequests(server, {"unknown", "one"}).ok());
    EXPECT_TRUE(AbortRequests(server, {"one"}).ok()) << "once more does nothing";
    const Answer answer = Read(*reader);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    ASSERT_EQ(answer.completes.size(), 2u);
    for (const auto& complete : answer.completes) EXPECT_EQ(complete.finish_reason(), "abort");
    WaitForRunning(server, 0);
    EXPECT_TRUE(AbortRequests(server, {"one"}).ok()) << "long gone";
  }
}

TEST(VllmAbort, AlsoEndsACallOfTheOtherProtocol) {
  TestServer server(Says(Bytes("abc")));
  server.engine().SetGate(false);
  v1::GenerateRequest request = TextRequest("hi", 3);
  request.set_request_id("one");
  grpc::ClientContext context;
  const auto stub = server.Stub();
  const auto reader = stub->Generate(&context, request);
  WaitForRunning(server, 1);
  EXPECT_TRUE(AbortRequests(server, {"one"}).ok());
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
}

TEST(VllmGenerate, ACancelledCallLetsTheEngineGo) {
  TestServer server(Says(std::vector<TokenId>(900, 'a')));
  server.engine().SetGate(false);
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->Generate(&context, Request(900, /*stream=*/true));
  WaitForRunning(server, 1);
  context.TryCancel();
  EXPECT_EQ(Read(*reader).status.error_code(), grpc::CANCELLED);
  WaitForRunning(server, 0);
}

TEST(VllmGenerate, ASlowReaderParksItsRequestAndLosesNothing) {
  std::vector<TokenId> script;
  for (int i = 0; i < 900; ++i) script.push_back('a' + i % 26);
  TestServer server(Says(script));
  grpc::ClientContext context;
  pb::GenerateRequest request = Request(900, /*stream=*/true);
  // Enough bytes that the connection takes no more of them.
  request.mutable_sampling_params()->set_logprobs(20);
  const auto stub = StubOf(server);
  const auto reader = stub->Generate(&context, request);
  EXPECT_TRUE(server.engine().WaitUntilParkedOr(900));
  const Answer answer = Read(*reader);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_THAT(answer.Streamed(0), testing::ElementsAreArray(script));
}

TEST(VllmGenerate, RequestIdsAreUniqueOverBothProtocols) {
  TestServer server(Says(Bytes("abc")));
  server.engine().SetGate(false);
  pb::GenerateRequest request = Request(3);
  request.set_request_id("one");
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->Generate(&context, request);
  WaitForRunning(server, 1);
  const Answer second = Ask(server, request);
  EXPECT_EQ(second.status.error_code(), grpc::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(second.status), "DUPLICATE_REQUEST_ID");
  server.engine().SetGate(true);
  EXPECT_TRUE(Read(*reader).status.ok());
}

// Calls a unary method.
template <typename Request, typename Response>
grpc::Status Call(const TestServer& server,
                  grpc::Status (pb::VllmEngine::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  Response* response, const Request& request = {}) {
  grpc::ClientContext context;
  return (*StubOf(server).*method)(&context, request, response);
}

grpc::Status Health(const TestServer& server) {
  pb::HealthCheckResponse response;
  const grpc::Status status = Call(server, &pb::VllmEngine::Stub::HealthCheck, &response);
  EXPECT_EQ(response.healthy(), status.ok());
  return status;
}

bool IsReady(const TestServer& server) {
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("vllm.grpc.engine.VllmEngine");
  grpc::health::v1::HealthCheckResponse response;
  const auto stub = grpc::health::v1::Health::NewStub(server.Channel());
  EXPECT_TRUE(stub->Check(&context, request, &response).ok());
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

TEST(VllmLife, IsHealthyWhileItServes) {
  TestServer server(Says({'a'}), {.loading = true});
  EXPECT_FALSE(IsReady(server));
  EXPECT_EQ(Health(server).error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(Health(server)), "MODEL_LOADING");
  EXPECT_EQ(Ask(server, Request(1)).status.error_code(), grpc::UNAVAILABLE);
  pb::GetModelInfoResponse info;
  EXPECT_EQ(Call(server, &pb::VllmEngine::Stub::GetModelInfo, &info).error_code(), grpc::UNAVAILABLE);
  pb::GetServerInfoResponse server_info;
  EXPECT_EQ(Call(server, &pb::VllmEngine::Stub::GetServerInfo, &server_info).error_code(), grpc::UNAVAILABLE);
  pb::GetLoadsResponse loads;
  EXPECT_EQ(Call(server, &pb::VllmEngine::Stub::GetLoads, &loads).error_code(), grpc::UNAVAILABLE);

  server.Serve();
  EXPECT_TRUE(IsReady(server));
  EXPECT_TRUE(Health(server).ok());

  server.server().Drain(absl::InfiniteDuration());
  EXPECT_FALSE(IsReady(server));
  EXPECT_EQ(ReasonOf(Health(server)), "SHUTTING_DOWN");
  EXPECT_EQ(ReasonOf(Ask(server, Request(1)).status), "SHUTTING_DOWN");
}

TEST(VllmLife, DrainEndsWhatIsNotDoneInTime) {
  TestServer server(Says(Bytes("abc")));
  server.engine().SetGate(false);
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->Generate(&context, Request(3));
  WaitForRunning(server, 1);
  std::thread drain([&] { server.server().Drain(absl::Milliseconds(20)); });
  const Answer answer = Read(*reader);
  EXPECT_EQ(answer.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_TRUE(SaysWhenToRetry(answer.status));
  EXPECT_TRUE(answer.completes.empty());
  drain.join();
}

TEST(VllmInfo, ModelAndServer) {
  TestServer server(Says(Bytes("abc")));
  pb::GetModelInfoResponse model;
  ASSERT_TRUE(Call(server, &pb::VllmEngine::Stub::GetModelInfo, &model).ok());
  EXPECT_EQ(model.model_path(), "/models/fake");
  EXPECT_EQ(model.tokenizer_path(), "/models/fake");
  EXPECT_EQ(model.served_model_name(), "fake-model");
  EXPECT_TRUE(model.is_generation());
  EXPECT_FALSE(model.supports_vision());
  EXPECT_EQ(model.max_context_length(), static_cast<uint32_t>(FakeEngine::kMaxContext));
  EXPECT_EQ(model.max_req_input_len(), FakeEngine::kMaxContext - 1);
  EXPECT_EQ(model.vocab_size(), static_cast<uint32_t>(FakeTokenizer::kVocabulary));
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(FakeTokenizer::kEnd));
  EXPECT_EQ(model.bos_token_id(), FakeTokenizer::kBos);
  EXPECT_EQ(model.model_type(), "llama");
  EXPECT_THAT(model.architectures(), ElementsAre("LlamaForCausalLM"));

  pb::GetServerInfoResponse info;
  ASSERT_TRUE(Call(server, &pb::VllmEngine::Stub::GetServerInfo, &info).ok());
  EXPECT_EQ(info.server_type(), "lukv");
  EXPECT_EQ(info.active_requests(), 0u);
  EXPECT_EQ(info.last_receive_timestamp(), 0);
  EXPECT_GT(info.uptime_seconds(), 0);
  EXPECT_EQ(info.kv_cache_dtype(), "bf16");
  EXPECT_EQ(info.block_size(), 64);
  EXPECT_EQ(info.max_num_seqs(), 4);
  EXPECT_EQ(info.data_parallel_size(), 1);
  EXPECT_FALSE(info.is_paused());

  const double before = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  EXPECT_TRUE(Ask(server, Request(1)).status.ok());
  ASSERT_TRUE(Call(server, &pb::VllmEngine::Stub::GetServerInfo, &info).ok());
  EXPECT_GE(info.last_receive_timestamp(), before - 1e-3);
}

TEST(VllmInfo, LoadsAreWhatTheEngineSays) {
  TestServer server(Says(Bytes("abc")));
  server.engine().SetGate(false);
  server.engine().SetStats({.waiting = 5,
                            .waiting_tokens = 600,
                            .pages_used = 17,
                            .page_bytes = 2 * 1536,
                            .cache_query_tokens = 200,
                            .cache_hit_tokens = 50,
                            .pages_reclaimable = 30});
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->Generate(&context, Request(3));
  WaitForRunning(server, 1);
  pb::GetLoadsResponse response;
  ASSERT_TRUE(Call(server, &pb::VllmEngine::Stub::GetLoads, &response).ok());
  EXPECT_EQ(response.version(), kVersion);
  absl::Time time;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, response.timestamp(), &time, nullptr)) << response.timestamp();
  EXPECT_EQ(response.dp_rank_count(), 1);
  ASSERT_EQ(response.loads_size(), 1);
  const pb::SchedulerLoad& load = response.loads(0);
  EXPECT_EQ(load.dp_rank(), 0);
  EXPECT_EQ(load.num_running_reqs(), 1);
  EXPECT_EQ(load.num_waiting_reqs(), 5);
  EXPECT_EQ(load.num_total_reqs(), 6);
  // 100 pages, of which 17 + 3 are used, and 30 held by what gives way; a page has room for 2 tokens' entries.
  EXPECT_EQ(load.max_total_num_tokens(), 200);
  EXPECT_EQ(load.num_used_tokens(), 40);
  EXPECT_DOUBLE_EQ(load.token_usage(), 0.2);
  EXPECT_DOUBLE_EQ(load.cache_hit_rate(), 0.25);
  EXPECT_DOUBLE_EQ(load.utilization(), 0.25);
  EXPECT_EQ(load.max_running_requests(), 4);
  EXPECT_EQ(load.num_waiting_uncached_tokens(), 600);
  EXPECT_EQ(load.gen_throughput(), 0) << "nothing is known of it after one reading";

  pb::GetLoadsRequest rank;
  rank.set_dp_rank(1);
  ASSERT_TRUE(Call(server, &pb::VllmEngine::Stub::GetLoads, &response, rank).ok());
  EXPECT_EQ(response.loads_size(), 0);
  server.engine().SetGate(true);
  EXPECT_TRUE(Read(*reader).status.ok());
}

TEST(VllmInfo, WhatIsNotSupported) {
  TestServer server(Says({'a'}));
  using Stub = pb::VllmEngine::Stub;
  pb::EmbedResponse embedding;
  EXPECT_EQ(Call(server, &Stub::Embed, &embedding).error_code(), grpc::UNIMPLEMENTED);
  common::FlushCacheResponse flush;
  EXPECT_EQ(Call(server, &Stub::FlushCache, &flush).error_code(), grpc::UNIMPLEMENTED);
  common::ProfileResponse profile;
  EXPECT_EQ(Call(server, &Stub::StartProfile, &profile).error_code(), grpc::UNIMPLEMENTED);
  const grpc::Status status = Call(server, &Stub::StopProfile, &profile);
  EXPECT_EQ(status.error_code(), grpc::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("StopProfile"));
  EXPECT_EQ(ReasonOf(status), "UNIMPLEMENTED");
}

TEST(VllmTokenizer, ComesInPiecesWithItsChecksum) {
  TestServer server(Says({'a'}));
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->GetTokenizer(&context, common::GetTokenizerRequest());
  std::string all;
  std::vector<std::string> checksums;
  for (common::GetTokenizerChunk chunk; reader->Read(&chunk);) {
    all += chunk.data();
    checksums.push_back(chunk.sha256());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(all, TestServer::TokenizerZip());
  ASSERT_GT(checksums.size(), 1u);
  EXPECT_EQ(checksums.back(), HexSha256(all));
  checksums.pop_back();
  EXPECT_THAT(checksums, testing::Each(""));
}

grpc::Status TokenizerStatus(const TestServer& server) {
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->GetTokenizer(&context, common::GetTokenizerRequest());
  common::GetTokenizerChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  return reader->Finish();
}

TEST(VllmTokenizer, SaysWhyThereIsNone) {
  TestServer server(Says({'a'}), {.loading = true, .tokenizer_zip = false});
  EXPECT_EQ(TokenizerStatus(server).error_code(), grpc::UNAVAILABLE);
  server.Serve();
  EXPECT_EQ(TokenizerStatus(server).error_code(), grpc::UNIMPLEMENTED);
}

TEST(VllmKvEvents, TheStreamStaysOpenUntilTheClientGoes) {
  TestServer server(Says({'a'}));
  grpc::ClientContext context;
  const auto stub = StubOf(server);
  const auto reader = stub->SubscribeKvEvents(&context, common::SubscribeKvEventsRequest());
  reader->WaitForInitialMetadata();
  context.TryCancel();
  common::KvEventBatch batch;
  EXPECT_FALSE(reader->Read(&batch));
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
}

TEST(VllmKvEvents, DrainEndsTheStreamAndDoesNotWaitForIt) {
  TestServer server(Says({'a'}), {.loading = true});
  const auto stub = StubOf(server);
  const auto status_of = [&stub](const std::function<void()>& when_open) {
    grpc::ClientContext context;
    const auto reader = stub->SubscribeKvEvents(&context, common::SubscribeKvEventsRequest());
    reader->WaitForInitialMetadata();
    when_open();
    common::KvEventBatch batch;
    EXPECT_FALSE(reader->Read(&batch));
    return reader->Finish();
  };
  EXPECT_EQ(ReasonOf(status_of([] {})), "MODEL_LOADING");
  server.Serve();
  EXPECT_EQ(ReasonOf(status_of([&] { server.server().Drain(absl::InfiniteDuration()); })), "SHUTTING_DOWN");
  EXPECT_EQ(ReasonOf(status_of([] {})), "SHUTTING_DOWN");
}

}  // namespace
}  // namespace lukv
