#include "server/validate.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/refusal.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/fake_engine.h"
#include "tests/server/fake_tokenizer.h"

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kContext = 100;
constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

class ValidateTest : public testing::Test {
 protected:
  static RequestLimits Limits() {
    static const FakeTokenizer tokenizer;
    return {.tokenizer = &tokenizer,
            .chat = std::nullopt,
            .no_chat_reason = "the template is strange",
            .max_context = kContext,
            .max_samples = 4,
            .max_prompt_bytes = MaxPromptBytes(tokenizer, kContext),
            .default_policy = *ParsePolicy("uniform+keydiff@0.5"),
            .tail = 5,
            .chat_tail = 20,
            .make_plan = &FakeEngine::Plan};
  }

  static v1::GenerateRequest Request(const std::string& text_format) {
    v1::GenerateRequest request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text_format, &request)) << text_format;
    return request;
  }

  static Validated<GenerateInput> Validate(const std::string& text_format) {
    return ValidateGenerate(Request(text_format), Limits(), "made-up");
  }

  static GenerateInput Valid(const std::string& text_format) {
    auto result = Validate(text_format);
    if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&result)) {
      ADD_FAILURE() << violations->at(0).field << ": " << violations->at(0).description;
      return {};
    }
    return std::get<GenerateInput>(std::move(result));
  }
};

TEST_F(ValidateTest, FillsDefaults) {
  const GenerateInput input = Valid(R"(text: "hi")");
  const ValidRequest& request = input.request;
  EXPECT_EQ(request.id, "made-up");
  EXPECT_THAT(request.prompt, ElementsAre(FakeTokenizer::kBos, 'h', 'i'));
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.max_tokens, 16);
  EXPECT_EQ(request.min_tokens, 0);
  EXPECT_EQ(request.sampling.temperature, 1.0f);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.top_p, 1.0f);
  EXPECT_EQ(request.sampling.min_p, 0.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.0f);
  EXPECT_FALSE(request.ignore_eos);
  EXPECT_FALSE(request.logprobs);
  EXPECT_TRUE(input.stop.empty());
}

TEST_F(ValidateTest, DrawsASeedWhenNoneIsGiven) {
  EXPECT_NE(Valid(R"(text: "hi")").request.sampling.seed, Valid(R"(text: "hi")").request.sampling.seed);
  EXPECT_EQ(Valid(R"(text: "hi" sampling { seed: 0 })").request.sampling.seed, 0u);
}

TEST_F(ValidateTest, TakesEveryField) {
  const GenerateInput input = Valid(R"(
    request_id: "mine" token_ids { ids: [1, 2, 258] } n: 4 max_tokens: 97 min_tokens: 97 stop: "a" stop: "bc"
    stop_token_ids: [5, 6] ignore_eos: true logprobs: true top_logprobs: 20
    sampling { temperature: 0 top_k: 7 top_p: 0.5 min_p: 1 repetition_penalty: 1.5 frequency_penalty: -2
               presence_penalty: 2 seed: 18446744073709551615 logit_bias { key: 3 value: -100 } })");
  const ValidRequest& request = input.request;
  EXPECT_EQ(request.id, "mine");
  EXPECT_THAT(request.prompt, ElementsAre(1, 2, 258));
  EXPECT_EQ(request.n, 4);
  EXPECT_EQ(request.max_tokens, 97);
  EXPECT_EQ(request.min_tokens, 97);
  EXPECT_THAT(input.stop, ElementsAre("a", "bc"));
  EXPECT_THAT(request.stop_ids, ElementsAre(5, 6));
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_TRUE(request.logprobs);
  EXPECT_EQ(request.top_logprobs, 20);
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_EQ(request.sampling.top_p, 0.5f);
  EXPECT_EQ(request.sampling.min_p, 1.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request.sampling.frequency_penalty, -2.0f);
  EXPECT_EQ(request.sampling.presence_penalty, 2.0f);
  EXPECT_EQ(request.sampling.seed, UINT64_MAX);
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(testing::Pair(3, -100.0f)));
}

TEST_F(ValidateTest, SpecialTokensCountOnlyWhenAskedFor) {
  EXPECT_EQ(Valid(R"(text: "</s>")").request.prompt.size(), 5u);
  EXPECT_THAT(Valid(R"(text: "</s>" parse_special: true)").request.prompt,
              ElementsAre(FakeTokenizer::kBos, FakeTokenizer::kEnd));
}

TEST_F(ValidateTest, TheDefaultOfMaxTokensShrinksToWhatIsLeft) {
  const std::string text(kContext - 4, 'x');  // + BOS: 3 left.
  EXPECT_EQ(Valid("text: \"" + text + "\"").request.max_tokens, 3);
}

struct Case {
  std::string name;
  std::string request;  // Text format.
  std::string field;
  std::string got;
  std::string allowed;
};

class InvalidFields : public ValidateTest, public testing::WithParamInterface<Case> {};

TEST_P(InvalidFields, AreReportedWithWhatTheyGotAndWhatIsAllowed) {
  const Case& test = GetParam();
  auto result = Validate(test.request);
  ASSERT_TRUE(std::holds_alternative<std::vector<FieldViolation>>(result));
  const auto& violations = std::get<std::vector<FieldViolation>>(result);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, test.field);
  EXPECT_THAT(violations[0].description, HasSubstr(test.got));
  EXPECT_THAT(violations[0].description, HasSubstr(test.allowed));
}

std::string WithSampling(const std::string& sampling) { return "text: \"x\" sampling { " + sampling + " }"; }

INSTANTIATE_TEST_SUITE_P(
    Prompt, InvalidFields,
    testing::Values(Case{"None", "", "prompt", "got none", "token_ids"},
                    Case{"EmptyText", R"(text: "")", "text", "an empty string", "any other"},
                    Case{"NoIds", "token_ids {}", "token_ids.ids", "none", "at least one"},
                    Case{"IdTooHigh", "token_ids { ids: [1, 259, 300] }", "token_ids.ids[1]", "259", "0 to 258"},
                    Case{"IdNegative", "token_ids { ids: [-1] }", "token_ids.ids[0]", "-1", "0 to 258"},
                    Case{"TooLong", "text: \"" + std::string(kContext, 'x') + "\"", "text", "101 tokens", "1 to 99"},
                    Case{"FarTooLong", "text: \"" + std::string(6 * kContext + 1, 'x') + "\"", "text", "601 bytes",
                         "100 tokens"},
                    Case{"NotTokenizable", R"(text: "\001")", "text", "no byte 1", ""},
                    Case{"NoChat", R"(conversation { messages { role: "user" content: "x" } })", "conversation",
                         "the template is strange", ""}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Lengths, InvalidFields,
    testing::Values(
        Case{"ZeroTokens", R"(text: "x" max_tokens: 0)", "max_tokens", "0", "1 to 98"},
        Case{"TooManyTokens", R"(text: "x" max_tokens: 99)", "max_tokens", "99 after a prompt of 2 tokens", "1 to 98"},
        Case{"MinAboveMax", R"(text: "x" max_tokens: 5 min_tokens: 6)", "min_tokens", "6", "0 to max_tokens (5)"},
        Case{"MinNegative", R"(text: "x" min_tokens: -1)", "min_tokens", "-1", "0 to"},
        Case{"NoSamples", R"(text: "x" n: 0)", "n", "0", "1 to 4"},
        Case{"TooManySamples", R"(text: "x" n: 5)", "n", "5", "1 to 4"},
        Case{"LongId", "text: \"x\" request_id: \"" + std::string(129, 'r') + "\"", "request_id", "129 bytes", "128"},
        Case{"LineBreakInId", R"(text: "x" request_id: "a\nb")", "request_id", "3 bytes", "printable"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Sampling, InvalidFields,
    testing::Values(
        Case{"ColdTemperature", WithSampling("temperature: -0.1"), "sampling.temperature", "-0.1",
             "0 (greedy) or more"},
        Case{"NanTemperature", WithSampling("temperature: nan"), "sampling.temperature", "nan", "or more"},
        Case{"InfiniteTemperature", WithSampling("temperature: inf"), "sampling.temperature", "inf", "or more"},
        Case{"TopPZero", WithSampling("top_p: 0"), "sampling.top_p", "got 0", "(0, 1]"},
        Case{"TopPHigh", WithSampling("top_p: 1.5"), "sampling.top_p", "1.5", "(0, 1]"},
        Case{"TopKNegative", WithSampling("top_k: -1"), "sampling.top_k", "-1", "0 (no limit)"},
        Case{"MinPHigh", WithSampling("min_p: 1.1"), "sampling.min_p", "1.1", "[0, 1]"},
        Case{"RepetitionZero", WithSampling("repetition_penalty: 0"), "sampling.repetition_penalty", "0",
             "more than 0"},
        Case{"FrequencyLow", WithSampling("frequency_penalty: -3"), "sampling.frequency_penalty", "-3", "[-2, 2]"},
        Case{"PresenceHigh", WithSampling("presence_penalty: 3"), "sampling.presence_penalty", "3", "[-2, 2]"},
        Case{"BiasTooHigh", WithSampling("logit_bias { key: 1 value: 101 }"), "sampling.logit_bias[1]", "101",
             "[-100, 100]"},
        Case{"BiasNan", WithSampling("logit_bias { key: 1 value: nan }"), "sampling.logit_bias[1]", "nan",
             "[-100, 100]"},
        Case{"BiasUnknownToken", WithSampling("logit_bias { key: 259 value: 1 }"), "sampling.logit_bias[259]", "259",
             "0 to 258"}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Stops, InvalidFields,
    testing::Values(
        Case{"EmptyStop", R"(text: "x" stop: "a" stop: "")", "stop[1]", "0 bytes", "1 to 1024"},
        Case{"LongStop", "text: \"x\" stop: \"" + std::string(1025, 's') + "\"", "stop[0]", "1025 bytes", "1 to 1024"},
        Case{"UnknownStopId", R"(text: "x" stop_token_ids: [1, 999])", "stop_token_ids[1]", "999", "0 to 258"},
        Case{"TopLogprobsHigh", R"(text: "x" logprobs: true top_logprobs: 21)", "top_logprobs", "21", "0 to 20"},
        Case{"TopLogprobsAlone", R"(text: "x" top_logprobs: 2)", "top_logprobs", "2 without logprobs", "0"}),
    [](const auto& test) { return test.param.name; });

TEST_F(ValidateTest, CountsStops) {
  v1::GenerateRequest request = Request(R"(text: "x")");
  for (int i = 0; i < 65; ++i) request.add_stop("s");
  const auto result = ValidateGenerate(request, Limits(), "id");
  ASSERT_TRUE(std::holds_alternative<std::vector<FieldViolation>>(result));
  EXPECT_EQ(std::get<1>(result)[0].field, "stop");
  EXPECT_THAT(std::get<1>(result)[0].description, HasSubstr("65 strings"));
}

TEST_F(ValidateTest, ReportsEverythingAtOnce) {
  auto result = Validate(R"(max_tokens: 0 n: 9 sampling { top_p: 2 temperature: -1 })");
  const auto& violations = std::get<std::vector<FieldViolation>>(result);
  std::vector<std::string> fields;
  for (const FieldViolation& violation : violations) fields.push_back(violation.field);
  EXPECT_THAT(fields,
              testing::UnorderedElementsAre("prompt", "max_tokens", "n", "sampling.top_p", "sampling.temperature"));
}

TEST_F(ValidateTest, Conversations) {
  const FakeTokenizer tokenizer(kChatMl);
  RequestLimits limits = Limits();
  limits.tokenizer = &tokenizer;
  limits.chat = ChatFamily::kChatMl;
  const auto valid =
      ValidateGenerate(Request(R"(conversation { messages { role: "user" content: "x" } })"), limits, "id");
  ASSERT_TRUE(std::holds_alternative<GenerateInput>(valid));
  EXPECT_GT(std::get<GenerateInput>(valid).request.prompt.size(), 1u);
  for (const char* wrong : {"conversation {}", R"(conversation { messages { role: "wizard" content: "x" } })"}) {
    const auto result = ValidateGenerate(Request(wrong), limits, "id");
    ASSERT_TRUE(std::holds_alternative<std::vector<FieldViolation>>(result)) << wrong;
    EXPECT_EQ(std::get<1>(result)[0].field, "conversation.messages");
  }
}

TEST_F(ValidateTest, Tokenize) {
  v1::TokenizeRequest request;
  request.set_text("hi");
  EXPECT_THAT(std::get<0>(ValidateTokenize(request, Limits())), ElementsAre(FakeTokenizer::kBos, 'h', 'i'));
  request.set_add_bos(false);
  EXPECT_THAT(std::get<0>(ValidateTokenize(request, Limits())), ElementsAre('h', 'i'));
  request.set_text("");
  EXPECT_THAT(std::get<0>(ValidateTokenize(request, Limits())), ElementsAre());
  EXPECT_EQ(std::get<1>(ValidateTokenize(v1::TokenizeRequest(), Limits()))[0].field, "input");
}

TEST_F(ValidateTest, Detokenize) {
  v1::DetokenizeRequest request;
  request.add_token_ids(1);
  EXPECT_THAT(std::get<0>(ValidateDetokenize(request, Limits())), ElementsAre(1));
  request.add_token_ids(259);
  EXPECT_EQ(std::get<1>(ValidateDetokenize(request, Limits()))[0].field, "token_ids[1]");
}

TEST(GrpcStatus, CarriesCodeReasonAndRetry) {
  const grpc::Status status = ToGrpcStatus(Refused(Refusal::kQueueFull, "full", absl::Milliseconds(2500)));
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(details.message(), "full");
  ASSERT_EQ(details.details_size(), 2);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "QUEUE_FULL");
  EXPECT_EQ(info.domain(), "lukv");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 500000000);
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(GrpcStatus, AsksNobodyToRetryWhatNeverFits) {
  const grpc::Status status = ToGrpcStatus(Refused(Refusal::kNeverFits, "too large"));
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "NEVER_FITS");
}

TEST(GrpcStatus, ManyViolationsFitIntoMetadata) {
  const std::vector<FieldViolation> violations(100, {.field = "stop[0]", .description = std::string(100, 'd')});
  const grpc::Status status = BadRequestStatus(violations);
  EXPECT_LT(status.error_details().size(), 4096u);
  EXPECT_THAT(status.error_message(), HasSubstr("99 more"));
}

// --- Eviction.

int32_t ContextOf(const GenerateInput& input) {
  return input.request.plan == nullptr ? 0 : input.request.plan->n_tokens();
}

TEST_F(ValidateTest, APromptsLastTokensAreItsQuestion) {
  const std::string text = "text: \"" + std::string(40, 'x') + "\" ";  // 41 tokens with the BOS.
  EXPECT_EQ(ContextOf(Valid(text)), 36);
  EXPECT_EQ(Valid(text).policy, "uniform+keydiff@0.5");
  EXPECT_EQ(ContextOf(Valid(text + "tail: 1")), 40);
  EXPECT_EQ(ContextOf(Valid(text + "tail: 33")), 8);
  EXPECT_EQ(ContextOf(Valid(text + "tail: 34")), 0);  // Too short to be evicted.
  EXPECT_EQ(ContextOf(Valid(text + "tail: 1000")), 0);
  EXPECT_EQ(Valid(text + "tail: 1000").request.prompt.size(), 41u);
}

TEST_F(ValidateTest, AContextStandsInFrontOfTheQuestion) {
  const GenerateInput input = Valid(R"(context_text: "0123456789" text: "ab")");
  EXPECT_EQ(ContextOf(input), 11);
  ASSERT_EQ(input.request.prompt.size(), 13u);
  EXPECT_EQ(input.request.prompt[0], FakeTokenizer::kBos);
  EXPECT_EQ(input.request.prompt[11], 'a');  // Without a BOS of its own.
  const GenerateInput ids = Valid(R"(context_token_ids { ids: [1,2,3,4,5,6,7,8,9] } token_ids { ids: [10] })");
  EXPECT_EQ(ContextOf(ids), 9);
  EXPECT_THAT(ids.request.prompt, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST_F(ValidateTest, AConversationsLastTurnIsItsQuestion) {
  RequestLimits limits = Limits();
  const FakeTokenizer tokenizer(kChatMl);
  limits.tokenizer = &tokenizer;
  limits.chat = ChatFamily::kChatMl;
  limits.max_context = 1000;
  limits.chat_tail = 500;
  const auto question = [&](size_t last_content) {
    v1::GenerateRequest request;
    for (const char* role : {"user", "assistant", "user"}) {
      v1::ChatMessage& message = *request.mutable_conversation()->add_messages();
      message.set_role(role);
      message.set_content(std::string(role == std::string("assistant") ? 50 : last_content, 'c'));
    }
    const auto result = ValidateGenerate(request, limits, "id");
    if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&result)) {
      ADD_FAILURE() << violations->at(0).field << ": " << violations->at(0).description;
      return 0;
    }
    const GenerateInput& input = std::get<GenerateInput>(result);
    return static_cast<int32_t>(input.request.prompt.size()) - ContextOf(input);
  };
  // The content, the words of the template around it, at most as many.
  EXPECT_GE(question(100), 100);
  EXPECT_LT(question(100), 200);
  EXPECT_EQ(question(200) - question(100), 100);
  limits.chat_tail = 60;
  EXPECT_EQ(question(100), 60);  // Up to the limit;
  limits.tail = 90;
  EXPECT_EQ(question(100), 90);  // but the usual tail at least.
}

TEST_F(ValidateTest, PoliciesAreNamedInTwoWays) {
  const std::string text = "text: \"" + std::string(40, 'x') + "\" ";
  EXPECT_EQ(ContextOf(Valid(text + "policy: 'full'")), 0);
  EXPECT_EQ(Valid(text + "policy: 'full'").policy, "full");
  EXPECT_EQ(Valid(text + "policy: 'adakv+snapkv@0.80:window=32'").policy, "adakv+snapkv@0.8");
  const auto parts = [&](const std::string& budget) {
    return Valid(text + "eviction_policy { allocator: 'adakv' scorer: 'snapkv' " + budget + "}").policy;
  };
  EXPECT_EQ(parts("compression_ratio: 0.3"), "adakv+snapkv@0.3");
  EXPECT_EQ(parts("tokens_per_head: 12"), "adakv+snapkv@12tokens");
  EXPECT_EQ(parts("bytes: 400 options { key: 'sink' value: '2' } options { key: 'alpha' value: '0' }"),
            "adakv+snapkv@400bytes:sink=2,alpha=0");
  EXPECT_EQ(Valid(text + "eviction_policy { allocator: 'uniform' scorer: 'knorm' tokens_per_head: 7 }")
                .request.plan->budgets()[0],
            7);
}

TEST_F(ValidateTest, WhatEvictionRefuses) {
  const struct {
    const char* request;
    const char* field;
    const char* says;
  } kCases[] = {
      {R"(text: "a" policy: "h2o")", "policy", "ALLOCATOR+SCORER@RATIO"},
      {R"(text: "a" policy: "uniform+h2o@0.5")", "policy", "expected_attention"},
      // Also where there is nothing to evict.
      {R"(text: "a" policy: "lukv+keydiff@0.5")", "policy", "no budget curve"},
      {R"(text: "a" eviction_policy { allocator: "uniform" scorer: "knorm" })", "eviction_policy", "no budget"},
      {R"(text: "a" eviction_policy { scorer: "knorm" compression_ratio: 0.5 })", "eviction_policy", "allocator"},
      {R"(text: "a" eviction_policy { allocator: "uniform" scorer: "knorm" compression_ratio: 1 })", "eviction_policy",
       "less than 1"},
      {R"(text: "a" eviction_policy { allocator: "uniform" scorer: "knorm" tokens_per_head: 0 })", "eviction_policy",
       "1 or more"},
      {R"(text: "0123456789abcdefgh" eviction_policy { allocator: "uniform" scorer: "knorm" bytes: 31 })",
       "eviction_policy", "32"},
      {R"(text: "a" tail: 0)", "tail", "1 or more"},
      {R"(text: "a" context_text: "")", "context_text", "empty"},
      {R"(text: "a" context_token_ids { })", "context_token_ids.ids", "none"},
      {R"(text: "a" context_token_ids { ids: [-1] })", "context_token_ids.ids[0]", "-1"},
      {R"(token_ids { ids: [1] } context_token_ids { ids: [1, 259] })", "context_token_ids.ids[1]", "259"},
  };
  for (const auto& c : kCases) {
    const auto result = Validate(c.request);
    const auto* violations = std::get_if<std::vector<FieldViolation>>(&result);
    ASSERT_NE(violations, nullptr) << c.request;
    EXPECT_EQ(violations->at(0).field, c.field) << c.request;
    EXPECT_THAT(violations->at(0).description, HasSubstr(c.says)) << c.request;
  }
  v1::GenerateRequest request = Request(R"(conversation { messages { role: "user" content: "a" } } context_text: "b")");
  RequestLimits limits = Limits();
  limits.chat = ChatFamily::kChatMl;
  const auto result = ValidateGenerate(request, limits, "id");
  EXPECT_EQ(std::get<std::vector<FieldViolation>>(result).at(0).field, "context");
}

TEST_F(ValidateTest, ContextAndQuestionShareTheContextLength) {
  v1::GenerateRequest request;
  request.set_context_text(std::string(50, 'c'));
  request.set_text(std::string(48, 'q'));
  EXPECT_TRUE(std::holds_alternative<GenerateInput>(ValidateGenerate(request, Limits(), "id")));
  request.set_text(std::string(49, 'q'));
  const auto result = ValidateGenerate(request, Limits(), "id");
  EXPECT_THAT(std::get<std::vector<FieldViolation>>(result).at(0).description, HasSubstr("after a context of 51"));
}

}  // namespace
}  // namespace lukv
