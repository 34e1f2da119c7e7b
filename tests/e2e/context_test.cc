// Contexts that are compressed once and asked many times, conversations, and preemption, as clients see them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/process.h"
#include "tests/server/test_client.h"

namespace lukv {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string Report(int lines) {
  std::string text = "The log of the lighthouse.";
  for (int i = 0; i < lines; ++i) {
    text += " On day " + std::to_string(i) + " the keeper counted " + std::to_string((i * 37) % 91) + " ships.";
  }
  return text;
}

v1::GenerateRequest Greedy(const std::string& text, int32_t max_tokens) {
  v1::GenerateRequest request = TextRequest(text, max_tokens);
  request.mutable_sampling()->set_temperature(0);
  return request;
}

v1::Usage UsageOf(const Read& read) {
  EXPECT_TRUE(read.status.ok()) << read.status.error_message();
  return read.messages.empty() ? v1::Usage() : read.messages.back().usage();
}

class Contexts : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<ServerProcess>(); }
  static void TearDownTestSuite() { server_.reset(); }

  std::unique_ptr<v1::Inference::Stub> stub_ = v1::Inference::NewStub(NewChannel(server_->address()));
  static std::unique_ptr<ServerProcess> server_;
};

std::unique_ptr<ServerProcess> Contexts::server_;

TEST_F(Contexts, ASecondQuestionFindsTheContextThere) {
  for (const char* policy : {"lukv+expected_attention@0.8", "full", "adakv+snapkv@0.5"}) {
    v1::GenerateRequest request = Greedy("\nHow many ships came on day 5? On day 5 the keeper counted", 8);
    request.set_context_text(Report(40));
    request.set_policy(policy);
    const Read first = ReadAll(*stub_, request);
    EXPECT_EQ(UsageOf(first).cached_tokens(), 0);
    const Read second = ReadAll(*stub_, request);
    EXPECT_GT(UsageOf(second).cached_tokens(), 500) << policy;
    EXPECT_EQ(second.Tokens(), first.Tokens()) << policy;
    EXPECT_EQ(UsageOf(second).kept_size(), UsageOf(first).kept_size());
  }
  EXPECT_EQ(server_->Metric("lukv_contexts"), 3);
  EXPECT_EQ(server_->Metric("lukv_kv_pages_used"), 0);
  EXPECT_GT(server_->Metric("lukv_kv_pages_reclaimable"), 0);
  EXPECT_GT(server_->Metric("vllm:prefix_cache_hits_total"), 1500);
}

TEST_F(Contexts, AreMadeAskedAndDeletedById) {
  v1::CreateContextRequest create;
  create.set_context_id("log");
  create.set_context_text(Report(41));
  v1::CreateContextResponse created;
  {
    grpc::ClientContext context;
    const grpc::Status status = stub_->CreateContext(&context, create, &created);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_EQ(created.context_id(), "log");
  EXPECT_EQ(created.policy(), "lukv+expected_attention@0.8");
  EXPECT_GT(created.context_tokens(), 500);
  EXPECT_EQ(created.kept_size(), 30);
  EXPECT_LT(created.kv_bytes_resident(), created.kv_bytes_full() / 3);
  EXPECT_GT(server_->Metric("lukv_kv_pages_used"), 0);
  {
    grpc::ClientContext context;
    const grpc::Status again = stub_->CreateContext(&context, create, &created);
    EXPECT_EQ(again.error_code(), grpc::ALREADY_EXISTS);
    EXPECT_EQ(ReasonOf(again), "DUPLICATE_CONTEXT_ID");
  }

  v1::GenerateRequest request = Greedy("\nHow many ships came on day 5?", 8);
  request.set_context_id("log");
  const Read by_id = ReadAll(*stub_, request);
  EXPECT_EQ(UsageOf(by_id).cached_tokens(), created.context_tokens());
  EXPECT_EQ(UsageOf(by_id).policy(), "lukv+expected_attention@0.8");
  v1::GenerateRequest in_full = request;
  in_full.set_context_text(Report(41));
  EXPECT_EQ(ReadAll(*stub_, in_full).Tokens(), by_id.Tokens());
  v1::GenerateRequest other_policy = request;
  other_policy.set_policy("full");
  EXPECT_THAT(ViolatedFields(ReadAll(*stub_, other_policy).status), testing::ElementsAre("policy"));

  v1::DeleteContextRequest remove;
  remove.set_context_id("log");
  v1::DeleteContextResponse removed;
  {
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->DeleteContext(&context, remove, &removed).ok());
  }
  EXPECT_EQ(server_->Metric("lukv_kv_pages_used"), 0);
  const Read gone = ReadAll(*stub_, request);
  EXPECT_EQ(gone.status.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(ReasonOf(gone.status), "NO_CONTEXT");
  grpc::ClientContext context;
  EXPECT_EQ(stub_->DeleteContext(&context, remove, &removed).error_code(), grpc::NOT_FOUND);
}

TEST_F(Contexts, OfCreateContextAreChecked) {
  v1::CreateContextRequest create;
  create.set_context_id("with space");
  create.set_ttl_seconds(0);
  create.set_priority(1000);
  create.set_policy("lukv+nothing@0.5");
  grpc::ClientContext context;
  v1::CreateContextResponse created;
  const grpc::Status status = stub_->CreateContext(&context, create, &created);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status),
              testing::UnorderedElementsAre("context_id", "ttl_seconds", "priority", "context", "policy"));
}

TEST_F(Contexts, AConversationGoesOnFromItsLastTurn) {
  v1::GenerateRequest first;
  first.set_max_tokens(12);
  first.mutable_sampling()->set_temperature(0);
  first.set_conversation_id("talk");
  auto* message = first.mutable_conversation()->add_messages();
  message->set_role("user");
  message->set_content("Here is a log. " + Report(20) + " How many ships on day 3?");
  const Read turn = ReadAll(*stub_, first);
  EXPECT_EQ(UsageOf(turn).cached_tokens(), 0);

  v1::GenerateRequest second = first;
  message = second.mutable_conversation()->add_messages();
  message->set_role("assistant");
  message->set_content(turn.Text());
  message = second.mutable_conversation()->add_messages();
  message->set_role("user");
  message->set_content("And on day 4?");
  const v1::Usage usage = UsageOf(ReadAll(*stub_, second));
  EXPECT_GT(usage.cached_tokens(), UsageOf(turn).prompt_tokens() - 4);
  EXPECT_LT(usage.cached_tokens(), usage.prompt_tokens());

  v1::GenerateRequest wrong = second;
  wrong.set_n(2);
  EXPECT_THAT(ViolatedFields(ReadAll(*stub_, wrong).status), testing::ElementsAre("conversation_id"));
}

TEST(Preemption, ChangesNobodysTokens) {
  // 512 pages: each of the four comes to hold 180 and starts with 90.
  const ServerProcess server({"--kv-memory", "8MiB", "--generation-reserve", "32"});
  constexpr int kRequests = 4;
  const auto ask = [&](int i) {
    v1::GenerateRequest request = TextRequest("Story number " + std::to_string(i) + ": once upon a time", 100);
    request.mutable_sampling()->set_seed(7 + i);
    request.set_ignore_eos(true);
    const auto stub = v1::Inference::NewStub(NewChannel(server.address()));
    return ReadAll(*stub, request);
  };
  std::vector<Read> alone, together(kRequests);
  for (int i = 0; i < kRequests; ++i) alone.push_back(ask(i));
  EXPECT_EQ(server.Metric("vllm:num_preemptions_total"), 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < kRequests; ++i) threads.emplace_back([&, i] { together[i] = ask(i); });
  for (std::thread& thread : threads) thread.join();
  int preemptions = 0;
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i].Tokens().size(), 100u);
    EXPECT_EQ(together[i].Tokens(), alone[i].Tokens()) << i;
    preemptions += UsageOf(together[i]).preemptions();
  }
  EXPECT_GT(preemptions, 0);
  EXPECT_EQ(server.Metric("vllm:num_preemptions_total"), preemptions);
  EXPECT_EQ(server.Metric("lukv_kv_pages_used"), 0);
}

}  // namespace
}  // namespace lukv
