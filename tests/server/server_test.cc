// Calls to a server with a fake model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "engine/refusal.h"
#include "tests/server/test_server.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Generate, StreamsTextTokensAndUsage) {
  TestServer server(Says({'a', FakeTokenizer::kHello, 'b', FakeTokenizer::kEnd}));
  const Read read = ReadAll(*server.Stub(), TextRequest("hi", 10));
  ASSERT_TRUE(read.status.ok()) << read.status.error_message();
  EXPECT_EQ(read.Text(), "ahello b");
  EXPECT_THAT(read.Tokens(), ElementsAre('a', FakeTokenizer::kHello, 'b', FakeTokenizer::kEnd));
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(read.Finishes()[0].token_id(), FakeTokenizer::kEnd);
  for (size_t i = 0; i < read.messages.size(); ++i) {
    EXPECT_EQ(read.messages[i].has_usage(), i + 1 == read.messages.size());
  }
  const v1::Usage& usage = read.messages.back().usage();
  EXPECT_EQ(usage.prompt_tokens(), 3);
  EXPECT_EQ(usage.generated_tokens(), 4);
  EXPECT_EQ(usage.kv_bytes_full(), 1000);
  EXPECT_EQ(usage.kv_bytes_resident(), 500);
  EXPECT_EQ(usage.queue_seconds(), 1);
  EXPECT_EQ(usage.prefill_seconds(), 2);
  EXPECT_EQ(usage.ttft_seconds(), 3);
  EXPECT_EQ(usage.decode_seconds(), 4);
}

TEST(Generate, EndsAtMaxTokens) {
  TestServer server(Says(Bytes("abcdef")));
  const Read read = ReadAll(*server.Stub(), TextRequest("hi", 3));
  EXPECT_EQ(read.Text(), "abc");
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(read.Finishes()[0].matched_case(), v1::Finish::MATCHED_NOT_SET);
}

TEST(Generate, NeverSendsHalfACodePoint) {
  TestServer server(Says(Bytes("x\xF0\x9F\x98\x80y\xF0\x9F")));
  const Read read = ReadAll(*server.Stub(), TextRequest("hi", 100));
  EXPECT_EQ(read.Text(), "x\xF0\x9F\x98\x80y\xEF\xBF\xBD");
  for (const v1::GenerateResponse& message : read.messages) {
    for (const v1::Delta& delta : message.deltas()) {
      EXPECT_NE(delta.text().c_str()[0] & 0xC0, 0x80) << "starts inside a code point";
    }
  }
}

TEST(Generate, EndsAtAStopStringAndTellsTheEngine) {
  std::vector<TokenId> endless(900, 'z');
  endless[0] = 'a';
  endless[1] = FakeTokenizer::kHello;
  endless[2] = 'w';
  TestServer server(Says(endless));
  v1::GenerateRequest request = TextRequest("hi", 900);
  request.add_stop("nothing");
  request.add_stop("o w");
  const Read read = ReadAll(*server.Stub(), request);
  ASSERT_TRUE(read.status.ok()) << read.status.error_message();
  EXPECT_EQ(read.Text(), "ahell");
  EXPECT_THAT(read.Tokens(), ElementsAre('a', FakeTokenizer::kHello, 'w'));
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(read.Finishes()[0].stop(), "o w");
  EXPECT_EQ(read.messages.back().usage().generated_tokens(), 3);
}

TEST(Generate, StopIdsHaveNoText) {
  TestServer server(Says(Bytes("abcd")));
  v1::GenerateRequest request = TextRequest("hi", 10);
  request.add_stop_token_ids('c');
  const Read read = ReadAll(*server.Stub(), request);
  EXPECT_EQ(read.Text(), "ab");
  EXPECT_THAT(read.Tokens(), ElementsAre('a', 'b', 'c'));
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].token_id(), 'c');
}

TEST(Generate, IgnoreEosGoesOn) {
  TestServer server(Says({'a', FakeTokenizer::kEnd, 'b'}));
  v1::GenerateRequest request = TextRequest("hi", 3);
  request.set_ignore_eos(true);
  EXPECT_EQ(ReadAll(*server.Stub(), request).Text(), "ab");
}

TEST(Generate, SamplesAreToldApart) {
  TestServer server([](const ValidRequest&, int32_t sample) { return Bytes(sample == 0 ? "abc STOP" : "xyzxyzxyz"); });
  v1::GenerateRequest request = TextRequest("hi", 9);
  request.set_n(2);
  request.add_stop(" ST");
  const Read read = ReadAll(*server.Stub(), request);
  EXPECT_EQ(read.Text(0), "abc");
  EXPECT_EQ(read.Text(1), "xyzxyzxyz");
  std::map<int32_t, v1::FinishReason> reasons;
  for (const v1::Finish& finish : read.Finishes()) EXPECT_TRUE(reasons.emplace(finish.index(), finish.reason()).second);
  EXPECT_EQ(reasons, (std::map<int32_t, v1::FinishReason>{{0, v1::FINISH_REASON_STOP}, {1, v1::FINISH_REASON_LENGTH}}));
}

TEST(Generate, ReportsLogprobs) {
  TestServer server(Says({FakeTokenizer::kHello, FakeTokenizer::kEnd}));
  v1::GenerateRequest request = TextRequest("hi", 2);
  request.set_logprobs(true);
  request.set_top_logprobs(2);
  const Read read = ReadAll(*server.Stub(), request);
  std::vector<v1::TokenLogprob> logprobs;
  for (const v1::GenerateResponse& message : read.messages) {
    for (const v1::Delta& delta : message.deltas()) {
      EXPECT_EQ(delta.logprobs_size(), delta.token_ids_size());
      logprobs.insert(logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    }
  }
  ASSERT_EQ(logprobs.size(), 2u);
  EXPECT_EQ(logprobs[0].token(), "hello ");
  EXPECT_EQ(logprobs[0].logprob(), -0.5f);
  ASSERT_EQ(logprobs[0].alternatives_size(), 2);
  EXPECT_EQ(logprobs[0].alternatives(1).logprob(), -2.0f);
  EXPECT_EQ(logprobs[1].token(), "</s>");
}

TEST(Generate, RefusesBadRequestsWithDetails) {
  TestServer server(Says({'a'}));
  v1::GenerateRequest request = TextRequest("", 0);
  request.mutable_sampling()->set_top_p(7);
  const Read read = ReadAll(*server.Stub(), request);
  EXPECT_EQ(read.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(read.status), "INVALID_REQUEST");
  EXPECT_THAT(ViolatedFields(read.status), testing::UnorderedElementsAre("text", "max_tokens", "sampling.top_p"));
}

TEST(Generate, PassesTheEnginesRefusalOn) {
  TestServer server(Says({'a'}));
  server.engine().RefuseNext(Refused(Refusal::kQueueFull, "7 requests are waiting"));
  const Read read = ReadAll(*server.Stub(), TextRequest("hi", 1));
  EXPECT_EQ(read.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(read.status.error_message(), "7 requests are waiting");
  EXPECT_EQ(ReasonOf(read.status), "QUEUE_FULL");
  EXPECT_TRUE(SaysWhenToRetry(read.status));
}

TEST(Generate, ADeadlineEndsTheCallAndTheRequest) {
  TestServer server(Says(std::vector<TokenId>(900, 'a')));
  server.engine().SetGate(false);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  const Read read = ReadAll(*server.Stub(), TextRequest("hi", 900), context);
  EXPECT_EQ(read.status.error_code(), grpc::DEADLINE_EXCEEDED);
  while (server.engine().Stats().running > 0) std::this_thread::yield();
}

TEST(Generate, CancellingFreesTheRequest) {
  TestServer server(Says(std::vector<TokenId>(900, 'a')));
  const auto stub = server.Stub();
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, TextRequest("hi", 900));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server.engine().SetGate(false);
  context.TryCancel();
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  while (server.engine().Stats().pages_used > 0) std::this_thread::yield();
}

TEST(Generate, TwoRunningCallsCannotShareAnId) {
  TestServer server(Says(std::vector<TokenId>(20, 'a')));
  server.engine().SetGate(false);
  const auto stub = server.Stub();
  v1::GenerateRequest request = TextRequest("hi", 20);
  request.set_request_id("mine");
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, request);
  while (server.engine().Stats().running == 0) std::this_thread::yield();
  const Read second = ReadAll(*stub, request);
  EXPECT_EQ(second.status.error_code(), grpc::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(second.status), "DUPLICATE_REQUEST_ID");
  server.engine().SetGate(true);
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_TRUE(reader->Finish().ok());
}

// A client that does not read: its window fills, then its outbox, then the engine parks the request. What the client
// reads afterwards is complete and in order, and another call goes on meanwhile.
TEST(Generate, ASlowClientParksItsRequestAndNobodyElses) {
  constexpr int32_t kTokens = 900;
  std::vector<TokenId> script;
  for (int32_t i = 0; i < kTokens; ++i) script.push_back('a' + i % 26);
  TestServer server(Says(script));
  v1::GenerateRequest request = TextRequest("hi", kTokens);
  // Large messages, so that the transport's window is soon full.
  request.set_logprobs(true);
  request.set_top_logprobs(20);
  const auto stub = server.Stub();
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, request);
  ASSERT_TRUE(server.engine().WaitUntilParkedOr(kTokens)) << "nothing held the engine back";
  // Were it held back by chance alone, it would be done by the end of these.
  const auto others = server.Stub();
  constexpr int32_t kOthers = 50;
  for (int i = 0; i < kOthers; ++i) EXPECT_EQ(ReadAll(*others, TextRequest("hi", 5)).Text(), "abcde");
  EXPECT_LT(server.engine().tokens_made() - kOthers * 5, kTokens);

  Read read;
  for (v1::GenerateResponse message; reader->Read(&message);) read.messages.push_back(message);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(read.Tokens(), script);
}

TEST(Generate, ManyCallsAtOnceEachGetTheirOwn) {
  TestServer server([](const ValidRequest& request, int32_t) {
    return std::vector<TokenId>(50, request.prompt.back());  // Echoes the prompt's last byte.
  });
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      const auto stub = server.Stub();
      for (int round = 0; round < 25; ++round) {
        const char letter = static_cast<char>('a' + (c * 25 + round) % 26);
        grpc::ClientContext context;
        const Read read = ReadAll(*stub, TextRequest(std::string(1, letter), 50), context);
        if (read.status.ok() && read.Text() == std::string(50, letter)) ++right;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 100);
}

TEST(Unary, TokenizeAndDetokenize) {
  TestServer server(Says({'a'}));
  const auto stub = server.Stub();
  v1::TokenizeRequest tokenize;
  tokenize.set_text("hi");
  v1::TokenizeResponse tokens;
  grpc::ClientContext first;
  ASSERT_TRUE(stub->Tokenize(&first, tokenize, &tokens).ok());
  EXPECT_THAT(tokens.token_ids(), ElementsAre(FakeTokenizer::kBos, 'h', 'i'));

  v1::DetokenizeRequest detokenize;
  detokenize.mutable_token_ids()->CopyFrom(tokens.token_ids());
  detokenize.add_token_ids(0xF0);  // No UTF-8.
  v1::DetokenizeResponse text;
  grpc::ClientContext second;
  ASSERT_TRUE(stub->Detokenize(&second, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "hi\xEF\xBF\xBD");
  detokenize.set_show_special(true);
  grpc::ClientContext third;
  ASSERT_TRUE(stub->Detokenize(&third, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "<s>hi\xEF\xBF\xBD");

  detokenize.add_token_ids(100000);
  grpc::ClientContext fourth;
  const grpc::Status bad = stub->Detokenize(&fourth, detokenize, &text);
  EXPECT_EQ(bad.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(bad), ElementsAre("token_ids[4]"));
}

// What was asked of eviction and what it did, in the last message.
TEST(Generate, ReportsEviction) {
  TestServer server(Says({'a'}), {.metrics = true});
  const auto stub = server.Stub();
  v1::GenerateRequest request;
  request.set_context_text("a context of some length");
  request.set_text("q");
  const auto usage = [&] {
    grpc::ClientContext context;
    const auto reader = stub->Generate(&context, request);
    v1::GenerateResponse response;
    v1::Usage last;
    while (reader->Read(&response)) last = response.usage();
    EXPECT_TRUE(reader->Finish().ok());
    return last;
  };
  EXPECT_EQ(usage().policy(), "uniform+keydiff@0.5");
  request.set_policy("adakv+snapkv@0.25");
  const v1::Usage evicted = usage();
  EXPECT_EQ(evicted.policy(), "adakv+snapkv@0.25");
  EXPECT_EQ(evicted.prompt_tokens(), 26);
  EXPECT_EQ(evicted.context_tokens(), 25);
  ASSERT_EQ(evicted.kept_size(), 2);
  EXPECT_EQ(evicted.kept(0).min(), 1);
  EXPECT_EQ(evicted.kept(0).mean(), 2.5f);
  EXPECT_EQ(evicted.kept(1).max(), 7);
  EXPECT_EQ(evicted.eviction_seconds(), 5);
  EXPECT_EQ(evicted.kv_bytes_freed(), 500);
  EXPECT_THAT(server.Metrics(), HasSubstr("policy=\"adakv+snapkv@0.25\""));
  request.set_policy("full");
  EXPECT_EQ(usage().context_tokens(), 0);
  request.set_policy("lukv+snapkv@0.25");
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status refused = reader->Finish();
  EXPECT_EQ(refused.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("no budget curve"));
}

TEST(Unary, GetModel) {
  TestServer server(Says({'a'}));
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(server.Stub()->GetModel(&context, v1::GetModelRequest(), &model).ok());
  EXPECT_EQ(model.name(), "fake-model");
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.vocabulary_size(), FakeTokenizer::kVocabulary);
  EXPECT_EQ(model.max_context(), FakeEngine::kMaxContext);
  EXPECT_EQ(model.context_length(), 2 * FakeEngine::kMaxContext);
  EXPECT_EQ(model.layers(), 2);
  EXPECT_EQ(model.heads(), 6);
  EXPECT_EQ(model.kv_heads(), 3);
  EXPECT_EQ(model.head_dim(), 64);
  EXPECT_EQ(model.weight_bytes(), 12345);
  EXPECT_EQ(model.kv_bytes_per_token(), 1536);
  EXPECT_EQ(model.kv_dtype(), "bf16");
  EXPECT_EQ(model.device(), "fake");
  EXPECT_EQ(model.bos_token_id(), FakeTokenizer::kBos);
  EXPECT_THAT(model.end_token_ids(), ElementsAre(FakeTokenizer::kEnd));
  EXPECT_FALSE(model.chat());
  EXPECT_EQ(model.max_samples(), 4);
  EXPECT_THAT(model.server_version(), HasSubstr("."));
  EXPECT_EQ(model.default_policy(), "uniform+keydiff@0.5");
  EXPECT_EQ(model.tail(), 7);
  EXPECT_EQ(model.min_evicted_context(), FakeEngine::kMinEvictedContext);
  EXPECT_EQ(model.fingerprint(), "fake-fingerprint");
  EXPECT_EQ(model.budget_curves_size(), 0);
}

}  // namespace
}  // namespace lukv
