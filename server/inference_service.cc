#include "server/inference_service.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/version.h"
#include "engine/tokenizer/unicode.h"
#include "server/generate_call.h"
#include "server/grpc_status.h"

namespace lukv {
namespace {

grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

// Any bytes as the UTF-8 that a protobuf string must be.
std::string ToUtf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const Utf8Step step = NextUtf8Step(bytes);
    text += step.kind == Utf8Step::Kind::kComplete ? bytes.substr(0, step.length) : "\xEF\xBF\xBD";  // U+FFFD
    bytes.remove_prefix(step.length);
  }
  return text;
}

RequestLimits LimitsOf(const ServedModel& model) {
  RequestLimits limits{.tokenizer = model.tokenizer.get(),
                       .chat = std::nullopt,
                       .no_chat_reason = "the model has no chat template; allowed are text and token_ids",
                       .max_context = model.engine->info().max_context,
                       .max_samples = model.max_sequences,
                       .max_prompt_bytes = MaxPromptBytes(*model.tokenizer, model.engine->info().max_context),
                       .default_policy = model.default_policy,
                       .tail = model.tail,
                       .chat_tail = model.chat_tail,
                       .make_plan = [engine = model.engine.get()](const Policy& policy, int32_t context_tokens) {
                         return engine->MakePlan(policy, context_tokens);
                       }};
  if (!model.tokenizer->chat_template().empty()) {
    absl::StatusOr<ChatFamily> family = RecogniseChatTemplate(model.tokenizer->chat_template());
    if (family.ok()) {
      limits.chat = *family;
    } else {
      limits.no_chat_reason = std::string(family.status().message());
    }
  }
  return limits;
}

}  // namespace

InferenceService::~InferenceService() { metrics_->SetEngine(nullptr, 0); }

void InferenceService::Serve(ServedModel model) {
  model_ = std::move(model);
  limits_ = LimitsOf(model_);
  executor_ = std::make_unique<Executor>();
  metrics_->SetEngine(model_.engine.get(), model_.page_tokens);
  State loading = State::kLoading;
  state_.compare_exchange_strong(loading, State::kServing);
}

void InferenceService::Close() {
  state_ = State::kClosed;
  registry_.Close();
}

bool InferenceService::WaitUntilIdle(absl::Time deadline) { return registry_.WaitUntilEmpty(deadline); }

void InferenceService::AbortAll() {
  registry_.AbortAll(absl::UnavailableError("the server shuts down and the drain timeout has passed"));
}

grpc::Status InferenceService::Admit(const grpc::CallbackServerContext& context, Caller& caller) const {
  // First: who has no key learns nothing.
  if (grpc::Status status = gate_->Enter(context, caller); !status.ok()) {
    metrics_->OnRefused("unauthenticated");
    return status;
  }
  const State state = state_.load();
  if (state == State::kServing) return grpc::Status::OK;
  metrics_->OnRefused("unavailable");
  return state == State::kLoading
             ? ToGrpcStatus(absl::UnavailableError("the model is being loaded"), "MODEL_LOADING")
             : ToGrpcStatus(absl::UnavailableError("the server is shutting down"), "SHUTTING_DOWN");
}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                                           const v1::GenerateRequest* request) {
  Caller caller;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return RefuseGenerate(status);
  auto input = ValidateGenerate(*request, limits_, absl::StrCat("lukv-", next_id_++));
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&input)) {
    metrics_->OnRefused("invalid_request");
    return RefuseGenerate(BadRequestStatus(*violations));
  }
  auto& valid = std::get<GenerateInput>(input);
  valid.request.tenant = caller.tenant;
  valid.request.deadline = absl::FromChrono(context->deadline());
  const CallContext call{.engine = model_.engine.get(),
                         .tokenizer = model_.tokenizer.get(),
                         .executor = executor_.get(),
                         .registry = &registry_,
                         .metrics = metrics_};
  return GenerateCall::Start(call, std::move(valid));
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  Caller caller;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return Reply(context, status);
  auto ids = ValidateTokenize(*request, limits_);
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&ids)) {
    return Reply(context, BadRequestStatus(*violations));
  }
  const auto& tokens = std::get<std::vector<TokenId>>(ids);
  response->mutable_token_ids()->Assign(tokens.begin(), tokens.end());
  return Reply(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  Caller caller;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return Reply(context, status);
  auto ids = ValidateDetokenize(*request, limits_);
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&ids)) {
    return Reply(context, BadRequestStatus(*violations));
  }
  response->set_text(ToUtf8(model_.tokenizer->Decode(std::get<std::vector<TokenId>>(ids), request->show_special())));
  return Reply(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetModelRequest* /*request*/,
                                                     v1::GetModelResponse* response) {
  Caller caller;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return Reply(context, status);
  const ModelInfo& info = model_.engine->info();
  const Tokenizer& tokenizer = *model_.tokenizer;
  response->set_name(model_.name);
  response->set_architecture(info.config.architecture);
  response->set_vocabulary_size(tokenizer.vocabulary());
  response->set_max_context(info.max_context);
  response->set_context_length(info.config.context_length);
  response->set_layers(info.config.n_layers);
  response->set_heads(info.config.n_heads);
  response->set_kv_heads(info.config.n_kv_heads);
  response->set_head_dim(info.config.head_dim);
  response->set_weight_bytes(info.weight_bytes);
  response->set_kv_bytes_per_token(info.kv_bytes_per_token);
  response->set_kv_dtype(absl::AsciiStrToLower(std::string(Traits(info.kv_dtype).name)));
  response->set_device(info.device);
  if (tokenizer.bos() >= 0) response->set_bos_token_id(tokenizer.bos());
  response->mutable_end_token_ids()->Assign(tokenizer.end_tokens().begin(), tokenizer.end_tokens().end());
  response->set_chat(limits_.chat.has_value());
  response->set_max_samples(model_.max_sequences);
  response->set_server_version(kVersion);
  response->set_default_policy(PolicyName(model_.default_policy));
  for (const std::string& curve : model_.engine->curves().Labels()) response->add_budget_curves(curve);
  response->set_min_evicted_context(info.min_evicted_context);
  response->set_tail(model_.tail);
  response->set_fingerprint(info.fingerprint);
  return Reply(context, grpc::Status::OK);
}

}  // namespace lukv
