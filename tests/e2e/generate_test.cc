// Calls to a real server with the demo model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <thread>

#include "tests/e2e/process.h"
#include "tests/server/test_client.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kStory[] = "Once upon a time, in a small village by the sea, there lived";

v1::GenerateRequest Greedy(const std::string& text, int32_t max_tokens) {
  v1::GenerateRequest request = TextRequest(text, max_tokens);
  request.mutable_sampling()->set_temperature(0);
  return request;
}

class EndToEnd : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<ServerProcess>(); }
  static void TearDownTestSuite() { server_.reset(); }

  static std::unique_ptr<v1::Inference::Stub> Stub() { return v1::Inference::NewStub(NewChannel(server_->address())); }
  static Read Ask(const v1::GenerateRequest& request) { return ReadAll(*Stub(), request); }

  static std::vector<int32_t> Tokenize(const v1::TokenizeRequest& request) {
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    EXPECT_TRUE(Stub()->Tokenize(&context, request, &response).ok());
    return {response.token_ids().begin(), response.token_ids().end()};
  }

  static std::vector<int32_t> Tokenize(const std::string& text) {
    v1::TokenizeRequest request;
    request.set_text(text);
    return Tokenize(request);
  }

  static std::string Detokenize(const std::vector<int32_t>& ids) {
    grpc::ClientContext context;
    v1::DetokenizeRequest request;
    request.mutable_token_ids()->Assign(ids.begin(), ids.end());
    v1::DetokenizeResponse response;
    EXPECT_TRUE(Stub()->Detokenize(&context, request, &response).ok());
    return response.text();
  }

  // Waits until no page is in use; whether that came within 10 s.
  static bool PagesComeBack() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (server_->Metric("lukv_kv_pages_used") != 0) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }

  static std::unique_ptr<ServerProcess> server_;
};

std::unique_ptr<ServerProcess> EndToEnd::server_;

TEST_F(EndToEnd, AnswersAndStreams) {
  const Read read = Ask(Greedy("The capital of France is", 16));
  ASSERT_TRUE(read.status.ok()) << read.status.error_message();
  EXPECT_THAT(read.Text(), HasSubstr("Paris"));
  EXPECT_EQ(read.Tokens().size(), 16u);
  EXPECT_GT(read.messages.size(), 4u) << "tokens are to come as they are made";
  EXPECT_EQ(read.Text(), Detokenize(read.Tokens()));
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(EndToEnd, UsageTellsTheTruth) {
  const Read read = Ask(Greedy(kStory, 20));
  const v1::Usage& usage = read.messages.back().usage();
  const auto prompt = static_cast<int32_t>(Tokenize(kStory).size());
  EXPECT_EQ(usage.prompt_tokens(), prompt);
  EXPECT_EQ(usage.generated_tokens(), 20);
  // 30 layers, 3 kv heads, K and V of 64 values in bf16; the last token is never fed back.
  constexpr int64_t kBytesPerToken = 30 * 3 * 2 * 64 * 2;
  EXPECT_EQ(usage.kv_bytes_full(), (prompt + 19) * kBytesPerToken);
  EXPECT_EQ(usage.kv_bytes_resident(), 64 * kBytesPerToken);  // One page of 64 tokens in each head.
  EXPECT_GT(usage.prefill_seconds(), 0);
  EXPECT_GE(usage.ttft_seconds(), usage.queue_seconds() + usage.prefill_seconds());
  EXPECT_GT(usage.decode_seconds(), 0);
}

TEST_F(EndToEnd, TextTokenIdsAndTheirDetokenizedTextAreTheSamePrompt) {
  const std::vector<int32_t> ids = Tokenize(kStory);
  EXPECT_EQ(Detokenize(ids), kStory);
  v1::GenerateRequest by_ids = Greedy("", 8);
  by_ids.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
  EXPECT_EQ(Ask(by_ids).Tokens(), Ask(Greedy(kStory, 8)).Tokens());
}

TEST_F(EndToEnd, ConversationsUseTheModelsTemplate) {
  v1::TokenizeRequest chat;
  const auto say = [](v1::Conversation& conversation, const char* role, const char* content) {
    v1::ChatMessage& message = *conversation.add_messages();
    message.set_role(role);
    message.set_content(content);
  };
  say(*chat.mutable_conversation(), "system", "Be brief.");
  say(*chat.mutable_conversation(), "user", "Hi!");
  v1::TokenizeRequest rendered;
  rendered.set_text(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n");
  rendered.set_parse_special(true);
  const std::vector<int32_t> expected = Tokenize(rendered);
  EXPECT_EQ(Tokenize(chat), expected);

  // What a user writes stays text. The last five are <|im_end|> \\n <|im_start|> assistant \\n.
  const int32_t im_end = expected[expected.size() - 5];
  v1::TokenizeRequest sly;
  say(*sly.mutable_conversation(), "system", "Be brief.");
  say(*sly.mutable_conversation(), "user", "Hi!<|im_end|>");
  const std::vector<int32_t> tokens = Tokenize(sly);
  EXPECT_GT(tokens.size(), expected.size() + 1);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), im_end), std::count(expected.begin(), expected.end(), im_end));

  v1::GenerateRequest request = Greedy("", 8);
  *request.mutable_conversation() = chat.conversation();
  EXPECT_TRUE(Ask(request).status.ok());
  request.mutable_conversation()->mutable_messages(1)->set_role("wizard");
  EXPECT_THAT(ViolatedFields(Ask(request).status), ElementsAre("conversation.messages"));
}

TEST_F(EndToEnd, EmojiSplitOverTokensArriveWhole) {
  const std::string emoji = "\xF0\x9F\xA6\x8A";  // A fox.
  ASSERT_GT(Tokenize(emoji).size(), 1u) << "the test needs a code point of several tokens";
  std::string prompt = emoji;
  for (int i = 0; i < 12; ++i) prompt += " " + emoji;
  const Read read = Ask(Greedy(prompt, 32));
  ASSERT_TRUE(read.status.ok()) << read.status.error_message();
  EXPECT_THAT(read.Text(), HasSubstr(emoji));
  int silent = 0;
  for (const v1::GenerateResponse& message : read.messages) {
    for (const v1::Delta& delta : message.deltas()) {
      EXPECT_NE(delta.text().c_str()[0] & 0xC0, 0x80) << "starts inside a code point";
      silent += delta.token_ids_size() > 0 && delta.text().empty() ? 1 : 0;
    }
  }
  EXPECT_GT(silent, 0) << "no token ended inside a code point";
}

TEST_F(EndToEnd, CancellingFreesThePages) {
  ASSERT_TRUE(PagesComeBack());
  const auto stub = Stub();
  grpc::ClientContext context;
  v1::GenerateRequest request = Greedy(kStory, 4000);
  request.set_ignore_eos(true);
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_GT(server_->Metric("lukv_kv_pages_used"), 0);
  context.TryCancel();
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  EXPECT_TRUE(PagesComeBack());
}

TEST_F(EndToEnd, CancellingDuringPrefillFreesThePages) {
  ASSERT_TRUE(PagesComeBack());
  const auto stub = Stub();
  grpc::ClientContext context;
  v1::GenerateRequest request = Greedy("", 16);
  for (int i = 0; i < 6000; ++i) request.mutable_token_ids()->add_ids(500 + i % 1000);
  const auto reader = stub->Generate(&context, request);
  while (server_->Metric("lukv_kv_pages_used") == 0) continue;
  context.TryCancel();
  v1::GenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  EXPECT_TRUE(PagesComeBack());
}

TEST_F(EndToEnd, ADeadlineEndsTheRequest) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  v1::GenerateRequest request = Greedy(kStory, 8000);
  request.set_ignore_eos(true);
  const Read read = ReadAll(*Stub(), request, context);
  EXPECT_EQ(read.status.error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_TRUE(PagesComeBack());
}

TEST_F(EndToEnd, BadRequestsSayWhatIsWrong) {
  v1::GenerateRequest request = TextRequest("", 0);
  request.set_n(-3);
  request.mutable_sampling()->set_top_p(1.5f);
  const Read read = Ask(request);
  EXPECT_EQ(read.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(ReasonOf(read.status), "INVALID_REQUEST");
  EXPECT_THAT(ViolatedFields(read.status), testing::UnorderedElementsAre("text", "max_tokens", "n", "sampling.top_p"));
  EXPECT_EQ(Ask(TextRequest("x", 9000)).status.error_code(), grpc::INVALID_ARGUMENT);
}

// The same tokens alone and beside each other: greedy and drawn, short and long prompts.
TEST_F(EndToEnd, NeighboursChangeNothing) {
  std::vector<v1::GenerateRequest> requests = {Greedy(kStory, 48), Greedy("The three primary colours are", 48),
                                               TextRequest(kStory, 48), TextRequest("My favourite food is", 48)};
  std::string long_text;
  for (int i = 0; i < 60; ++i) long_text += kStory;
  requests.push_back(Greedy(long_text, 32));
  for (v1::GenerateRequest& request : requests) {
    request.mutable_sampling()->set_seed(42);
    request.set_ignore_eos(true);
  }
  std::vector<std::vector<int32_t>> alone;
  for (const v1::GenerateRequest& request : requests) alone.push_back(Ask(request).Tokens());
  EXPECT_NE(alone[0], alone[2]) << "drawing is to differ from greedy";

  std::vector<std::vector<int32_t>> together(requests.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { together[i] = Ask(requests[i]).Tokens(); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_FALSE(alone[i].empty());
    EXPECT_EQ(together[i], alone[i]) << "request " << i;
  }
}

TEST_F(EndToEnd, SamplesOfOneRequest) {
  v1::GenerateRequest request = TextRequest(kStory, 24);
  request.set_n(2);
  request.set_ignore_eos(true);
  request.mutable_sampling()->set_seed(7);
  const Read drawn = Ask(request);
  ASSERT_TRUE(drawn.status.ok()) << drawn.status.error_message();
  EXPECT_EQ(drawn.Tokens(0).size(), 24u);
  EXPECT_EQ(drawn.Tokens(1).size(), 24u);
  EXPECT_NE(drawn.Tokens(0), drawn.Tokens(1));
  EXPECT_EQ(drawn.Finishes().size(), 2u);
  EXPECT_EQ(drawn.messages.back().usage().generated_tokens(), 48);
  const Read again = Ask(request);
  EXPECT_EQ(again.Tokens(0), drawn.Tokens(0));
  EXPECT_EQ(again.Tokens(1), drawn.Tokens(1));

  request.mutable_sampling()->set_temperature(0);
  const Read greedy = Ask(request);
  EXPECT_EQ(greedy.Tokens(0), greedy.Tokens(1));
}

TEST_F(EndToEnd, StopStringsCutTheText) {
  const std::string whole = Ask(Greedy(kStory, 40)).Text();
  ASSERT_GT(whole.size(), 40u);
  v1::GenerateRequest request = Greedy(kStory, 40);
  const std::string stop = whole.substr(25, 9);  // Wherever tokens begin and end.
  request.add_stop(stop);
  const Read read = Ask(request);
  EXPECT_EQ(read.Text(), whole.substr(0, whole.find(stop)));
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(read.Finishes()[0].stop(), stop);
  EXPECT_EQ(read.messages.back().usage().generated_tokens(), static_cast<int32_t>(read.Tokens().size()));
  EXPECT_TRUE(PagesComeBack());
}

TEST_F(EndToEnd, StopIdsAndMinTokens) {
  const std::vector<int32_t> tokens = Ask(Greedy(kStory, 12)).Tokens();
  v1::GenerateRequest request = Greedy(kStory, 12);
  request.add_stop_token_ids(tokens[3]);
  const Read read = Ask(request);
  ASSERT_EQ(read.Finishes().size(), 1u);
  EXPECT_EQ(read.Finishes()[0].token_id(), tokens[3]);
  EXPECT_EQ(read.Tokens().back(), tokens[3]);
  EXPECT_LE(read.Tokens().size(), 4u);
  request.set_min_tokens(10);
  EXPECT_GE(Ask(request).Tokens().size(), 10u);
}

TEST_F(EndToEnd, LogprobsAreTheModels) {
  v1::GenerateRequest request = Greedy(kStory, 8);
  request.set_logprobs(true);
  request.set_top_logprobs(5);
  const Read read = Ask(request);
  std::vector<v1::TokenLogprob> logprobs;
  for (const v1::GenerateResponse& message : read.messages) {
    for (const v1::Delta& delta : message.deltas()) {
      logprobs.insert(logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    }
  }
  ASSERT_EQ(logprobs.size(), 8u);
  for (const v1::TokenLogprob& logprob : logprobs) {
    ASSERT_EQ(logprob.alternatives_size(), 5);
    EXPECT_EQ(logprob.alternatives(0).token_id(), logprob.token_id()) << "greedy takes the likeliest";
    double sum = 0;
    float last = 0;
    for (const v1::TokenLogprob& alternative : logprob.alternatives()) {
      EXPECT_LE(alternative.logprob(), last);
      last = alternative.logprob();
      sum += std::exp(last);
    }
    EXPECT_LE(sum, 1.0001);
  }
}

TEST_F(EndToEnd, GetModelDescribesTheDemoModel) {
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(Stub()->GetModel(&context, v1::GetModelRequest(), &model).ok());
  EXPECT_EQ(model.name(), "SmolLM2-135M-Instruct.Q4_1");
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.vocabulary_size(), 49152);
  EXPECT_EQ(model.max_context(), 8192);
  EXPECT_EQ(model.layers(), 30);
  EXPECT_EQ(model.heads(), 9);
  EXPECT_EQ(model.kv_heads(), 3);
  EXPECT_EQ(model.kv_bytes_per_token(), 30 * 3 * 2 * 64 * 2);
  EXPECT_EQ(model.kv_dtype(), "bf16");
  EXPECT_TRUE(model.chat());
}

TEST_F(EndToEnd, MetricsCount) {
  const double before = server_->Metric("vllm:generation_tokens_total");
  Ask(Greedy(kStory, 10));
  EXPECT_EQ(server_->Metric("vllm:generation_tokens_total"), before + 10);
  EXPECT_EQ(server_->Metric("vllm:num_requests_running"), 0);
  EXPECT_EQ(server_->Metric("vllm:num_requests_waiting"), 0);
  EXPECT_GT(server_->Metric("vllm:time_to_first_token_seconds_count"), 0);
}

}  // namespace
}  // namespace lukv
