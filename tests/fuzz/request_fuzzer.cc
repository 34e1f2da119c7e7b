// Requests of both protocols as bytes of a message: what is let through keeps the promises of engine/request.h.
#include <variant>

#include "base/check.h"
#include "engine/evict/eviction_plan.h"
#include "server/context_directory.h"
#include "server/validate.h"
#include "server/vllm_request.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/server/fake_engine.h"
#include "tests/server/fake_tokenizer.h"

namespace lukv {
namespace {

constexpr int32_t kMaxContext = 256;
constexpr int32_t kMaxSamples = 4;

const RequestLimits& Limits() {
  static const FakeTokenizer* const kTokenizer = new FakeTokenizer();
  static const RequestLimits* const kLimits =
      new RequestLimits{.tokenizer = kTokenizer,
                        .chat = ChatFamily::kChatMl,
                        .no_chat_reason = "",
                        .max_context = kMaxContext,
                        .max_samples = kMaxSamples,
                        .max_prompt_bytes = MaxPromptBytes(*kTokenizer, kMaxContext),
                        .default_policy = *ParsePolicy("uniform+keydiff@0.5"),
                        .tail = 5,
                        .chat_tail = 20,
                        .make_plan = &FakeEngine::Plan};
  return *kLimits;
}

void CheckPrompt(const ValidRequest& request) {
  LUKV_CHECK(!request.prompt.empty());
  LUKV_CHECK(request.prompt.size() <= static_cast<size_t>(kMaxContext));
  for (const TokenId id : request.prompt) LUKV_CHECK(id >= 0 && id < FakeTokenizer::kVocabulary);
  if (request.plan == nullptr) return;
  LUKV_CHECK(request.plan->n_tokens() <= static_cast<int32_t>(request.prompt.size()));
}

void CheckGenerate(const GenerateInput& input) {
  const ValidRequest& request = input.request;
  CheckPrompt(request);
  LUKV_CHECK(request.max_tokens >= 1);
  LUKV_CHECK(static_cast<int32_t>(request.prompt.size()) + request.max_tokens <= kMaxContext);
  LUKV_CHECK(request.min_tokens >= 0 && request.min_tokens <= request.max_tokens);
  LUKV_CHECK(request.n >= 1 && request.n <= kMaxSamples);
  LUKV_CHECK(request.priority >= -kMaxPriority && request.priority <= kMaxPriority);
  LUKV_CHECK(request.top_logprobs >= 0 && request.top_logprobs <= 20);
  const SamplingParams& sampling = request.sampling;
  LUKV_CHECK(sampling.temperature >= 0);
  LUKV_CHECK(sampling.top_k >= 0);
  LUKV_CHECK(sampling.top_p > 0 && sampling.top_p <= 1);
  LUKV_CHECK(sampling.min_p >= 0 && sampling.min_p <= 1);
  LUKV_CHECK(sampling.repetition_penalty > 0);
  LUKV_CHECK(sampling.frequency_penalty >= -2 && sampling.frequency_penalty <= 2);
  LUKV_CHECK(sampling.presence_penalty >= -2 && sampling.presence_penalty <= 2);
  for (const std::string& stop : input.stop) LUKV_CHECK(!stop.empty());
  for (const TokenId id : request.stop_ids) LUKV_CHECK(id >= 0 && id < FakeTokenizer::kVocabulary);
  if (!request.conversation.empty()) LUKV_CHECK(request.n == 1 && !request.shared_context.has_value());
  if (request.shared_context.has_value()) {
    LUKV_CHECK(request.shared_context->n_tokens >= 1);
    LUKV_CHECK(request.plan == nullptr || request.shared_context->n_tokens == request.plan->n_tokens());
  }
}

// Nothing is refused without a reason.
template <typename T>
const T* ValueOf(const Validated<T>& validated) {
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&validated)) {
    LUKV_CHECK(!violations->empty());
    BadRequestStatus(*violations);
    return nullptr;
  }
  return &std::get<T>(validated);
}

void Try(uint8_t kind, const std::string& bytes) {
  if (kind == 0) {
    v1::GenerateRequest request;
    if (!request.ParseFromString(bytes)) return;
    // Every context_id is known: the service asks for it first.
    static const StoredContext* const kStored = new StoredContext{
        .key = {.tenant = "", .policy = "full", .tokens = {1, 2, 3}}, .plan = nullptr, .policy = "full"};
    const bool by_id = request.context_case() == v1::GenerateRequest::kContextId;
    const auto valid = ValidateGenerate(request, Limits(), "made-up", by_id ? kStored : nullptr);
    if (const auto* input = ValueOf(valid)) CheckGenerate(*input);
  } else if (kind == 1) {
    vllm::grpc::engine::GenerateRequest request;
    if (!request.ParseFromString(bytes) || !CheckSupported(request).ok()) return;
    const auto valid = ValidateVllmGenerate(request, Limits(), "made-up");
    if (const auto* input = ValueOf(valid)) CheckGenerate(*input);
  } else if (kind == 2) {
    v1::CreateContextRequest request;
    if (!request.ParseFromString(bytes)) return;
    const auto valid = ValidateCreateContext(request, Limits(), "made-up");
    if (const auto* input = ValueOf(valid)) CheckPrompt(input->request);
  } else if (kind == 3) {
    v1::TokenizeRequest request;
    if (request.ParseFromString(bytes)) ValueOf(ValidateTokenize(request, Limits()));
  } else {
    v1::DetokenizeRequest request;
    if (request.ParseFromString(bytes)) ValueOf(ValidateDetokenize(request, Limits()));
  }
}

}  // namespace
}  // namespace lukv

// The first byte says which message the others are.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  lukv::Try(data[0] % 5, lukv::InputText(data + 1, size - 1));
  return 0;
}
