// Requests of the gateways' protocol.
#include "server/vllm_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/fake_engine.h"
#include "tests/server/fake_tokenizer.h"

namespace lukv {
namespace {

namespace pb = vllm::grpc::engine;
using testing::ElementsAre;
using testing::HasSubstr;

const FakeTokenizer kTokenizer;

RequestLimits Limits() {
  return {.tokenizer = &kTokenizer,
          .max_context = 100,
          .max_samples = 4,
          .max_prompt_bytes = 600,
          .default_policy = *ParsePolicy("uniform+keydiff@0.5"),
          .tail = 7,
          .make_plan = FakeEngine::Plan};
}

pb::GenerateRequest Request(int tokens = 3) {
  pb::GenerateRequest request;
  for (int i = 0; i < tokens; ++i) request.mutable_tokenized()->add_input_ids('a');
  return request;
}

GenerateInput Valid(const pb::GenerateRequest& request) {
  EXPECT_TRUE(CheckSupported(request).ok());
  auto result = ValidateVllmGenerate(request, Limits(), "made-up");
  const auto* violations = std::get_if<std::vector<FieldViolation>>(&result);
  if (violations != nullptr) {
    ADD_FAILURE() << violations->at(0).field << ": " << violations->at(0).description;
    return {};
  }
  return std::get<GenerateInput>(std::move(result));
}

std::vector<std::string> Wrong(const pb::GenerateRequest& request) {
  EXPECT_TRUE(CheckSupported(request).ok());
  const auto result = ValidateVllmGenerate(request, Limits(), "made-up");
  std::vector<std::string> fields;
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&result)) {
    for (const FieldViolation& violation : *violations) fields.push_back(violation.field);
  }
  return fields;
}

TEST(VllmRequest, Defaults) {
  const GenerateInput input = Valid(Request());
  const ValidRequest& request = input.request;
  EXPECT_EQ(request.id, "made-up");
  EXPECT_THAT(request.prompt, ElementsAre('a', 'a', 'a'));
  EXPECT_EQ(request.sampling.temperature, 1);
  EXPECT_EQ(request.sampling.top_p, 1);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_EQ(request.sampling.min_p, 0);
  EXPECT_EQ(request.sampling.repetition_penalty, 1);
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.max_tokens, 97) << "what the prompt leaves";
  EXPECT_EQ(request.min_tokens, 0);
  EXPECT_FALSE(request.ignore_eos);
  EXPECT_FALSE(request.logprobs);
  EXPECT_EQ(request.priority, 0);
  EXPECT_EQ(input.policy, "uniform+keydiff@0.5");
  EXPECT_TRUE(input.show_special) << "skip_special_tokens is false where it is absent";
}

TEST(VllmRequest, TakesEverySetting) {
  pb::GenerateRequest request = Request();
  request.set_request_id("chatcmpl-1");
  pb::SamplingParams& params = *request.mutable_sampling_params();
  params.set_temperature(0);
  params.set_top_p(0.5f);
  params.set_top_k(5);
  params.set_min_p(0.1f);
  params.set_frequency_penalty(1);
  params.set_presence_penalty(-1);
  params.set_repetition_penalty(1.5f);
  params.set_max_tokens(50);
  params.set_min_tokens(2);
  params.add_stop("end");
  params.add_stop_token_ids('z');
  params.set_skip_special_tokens(true);
  params.set_ignore_eos(true);
  params.set_n(3);
  params.set_logprobs(2);
  params.set_seed(-7);
  (*params.mutable_logit_bias())['b'] = -100;
  const GenerateInput input = Valid(request);
  const ValidRequest& out = input.request;
  EXPECT_EQ(out.id, "chatcmpl-1");
  EXPECT_EQ(out.sampling.temperature, 0);
  EXPECT_EQ(out.sampling.top_p, 0.5f);
  EXPECT_EQ(out.sampling.top_k, 5);
  EXPECT_EQ(out.sampling.min_p, 0.1f);
  EXPECT_EQ(out.sampling.frequency_penalty, 1);
  EXPECT_EQ(out.sampling.presence_penalty, -1);
  EXPECT_EQ(out.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(out.sampling.seed, static_cast<uint64_t>(int64_t{-7}));
  EXPECT_EQ(out.sampling.logit_bias, (std::map<TokenId, float>{{'b', -100}}));
  EXPECT_EQ(out.max_tokens, 50);
  EXPECT_EQ(out.min_tokens, 2);
  EXPECT_EQ(out.n, 3);
  EXPECT_THAT(out.stop_ids, ElementsAre('z'));
  EXPECT_TRUE(out.ignore_eos);
  EXPECT_TRUE(out.logprobs);
  EXPECT_EQ(out.top_logprobs, 2);
  EXPECT_THAT(input.stop, ElementsAre("end"));
  EXPECT_FALSE(input.show_special);
}

TEST(VllmRequest, NoAlternativesAreLogprobsToo) {
  pb::GenerateRequest request = Request();
  request.mutable_sampling_params()->set_logprobs(0);
  EXPECT_TRUE(Valid(request).request.logprobs);
  EXPECT_EQ(Valid(request).request.top_logprobs, 0);
}

TEST(VllmRequest, SeedMinusOneIsRandom) {
  pb::GenerateRequest request = Request();
  request.mutable_sampling_params()->set_seed(-1);
  EXPECT_NE(Valid(request).request.sampling.seed, Valid(request).request.sampling.seed);
}

TEST(VllmRequest, ALargeTopKIsNoLimit) {
  pb::GenerateRequest request = Request();
  request.mutable_sampling_params()->set_top_k(0xFFFFFFFF);
  EXPECT_EQ(Valid(request).request.sampling.top_k, FakeTokenizer::kVocabulary);
}

TEST(VllmRequest, TextIsTokenisedWithItsSpecialTokens) {
  pb::GenerateRequest request;
  request.set_text("hi</s>");
  const GenerateInput input = Valid(request);
  EXPECT_THAT(input.request.prompt, ElementsAre(FakeTokenizer::kBos, 'h', 'i', FakeTokenizer::kEnd));
  EXPECT_EQ(input.request.max_tokens, 96);
}

TEST(VllmRequest, AllButTheTailIsEvicted) {
  const GenerateInput input = Valid(Request(30));
  ASSERT_NE(input.request.plan, nullptr);
  EXPECT_EQ(input.request.plan->n_tokens(), 23);
}

TEST(VllmRequest, WhatIsWrongHasTheCallersNames) {
  pb::GenerateRequest request = Request();
  request.mutable_tokenized()->add_input_ids(4'000'000'000);
  EXPECT_THAT(Wrong(request), ElementsAre("tokenized.input_ids[3]"));
  EXPECT_THAT(Wrong(Request(100)), ElementsAre("tokenized.input_ids"));
  EXPECT_THAT(Wrong(pb::GenerateRequest()), ElementsAre("input"));
  request = Request(0);
  request.mutable_tokenized();
  EXPECT_THAT(Wrong(request), ElementsAre("tokenized.input_ids"));
  request.set_text("");
  EXPECT_THAT(Wrong(request), ElementsAre("text"));
  request.set_text(std::string(601, 'a'));
  EXPECT_THAT(Wrong(request), ElementsAre("text"));
  request.set_text("\1");
  EXPECT_THAT(Wrong(request), ElementsAre("text"));

  request = Request();
  request.set_request_id("two\nlines");
  pb::SamplingParams& params = *request.mutable_sampling_params();
  params.set_temperature(-1);
  params.set_top_p(1.5f);
  params.set_logprobs(21);
  params.set_n(5);
  params.set_max_tokens(101);
  params.set_min_tokens(0xFFFFFFFF);
  params.add_stop("");
  params.add_stop_token_ids(300);
  EXPECT_THAT(Wrong(request),
              testing::UnorderedElementsAre("request_id", "sampling_params.temperature", "sampling_params.top_p",
                                            "sampling_params.logprobs", "sampling_params.n",
                                            "sampling_params.max_tokens", "sampling_params.min_tokens",
                                            "sampling_params.stop[0]", "sampling_params.stop_token_ids[0]"));
}

TEST(VllmRequest, WhatIsNotSupportedIsNamed) {
  const auto refusal = [](auto change) {
    pb::GenerateRequest request = Request();
    change(request, *request.mutable_sampling_params());
    const absl::Status status = CheckSupported(request);
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    return std::string(status.message());
  };
  using R = pb::GenerateRequest;
  using P = pb::SamplingParams;
  EXPECT_THAT(refusal([](R&, P& p) { p.set_json_schema("{}"); }), HasSubstr("constraint"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_regex("a"); }), HasSubstr("constraint"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_grammar("a"); }), HasSubstr("constraint"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_structural_tag("a"); }), HasSubstr("constraint"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_json_object(true); }), HasSubstr("constraint"));
  EXPECT_THAT(refusal([](R&, P& p) { p.mutable_choice(); }), HasSubstr("constraint"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_prompt_logprobs(0); }), HasSubstr("prompt_logprobs"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_logprobs(-1); }), HasSubstr("logprobs of -1"));
  EXPECT_THAT(refusal([](R&, P& p) { p.set_truncate_prompt_tokens(5); }), HasSubstr("truncate_prompt_tokens"));
  EXPECT_THAT(refusal([](R& r, P&) { r.mutable_mm_inputs(); }), HasSubstr("mm_inputs"));
  EXPECT_THAT(refusal([](R& r, P&) { r.add_extra_mm_inputs(); }), HasSubstr("extra_mm_inputs"));
  EXPECT_THAT(refusal([](R& r, P&) { r.mutable_media_refs(); }), HasSubstr("media_refs"));
  EXPECT_THAT(refusal([](R& r, P&) { r.mutable_kv_transfer_params(); }), HasSubstr("kv_transfer_params"));
  EXPECT_THAT(refusal([](R& r, P&) { r.set_kv_transfer_params_json("{}"); }), HasSubstr("kv_transfer_params_json"));
  EXPECT_THAT(refusal([](R& r, P&) { r.set_data_parallel_rank(1); }), HasSubstr("data_parallel_rank"));
  const std::string two = refusal([](R& r, P& p) {
    r.mutable_media_refs();
    p.set_regex("a");
  });
  EXPECT_THAT(two, testing::AllOf(HasSubstr("media_refs"), HasSubstr("constraint")));

  pb::GenerateRequest harmless = Request();
  harmless.set_data_parallel_rank(0);
  harmless.mutable_sampling_params()->set_json_object(false);
  EXPECT_TRUE(CheckSupported(harmless).ok());
}

}  // namespace
}  // namespace lukv
