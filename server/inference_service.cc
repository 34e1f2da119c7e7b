#include "server/inference_service.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/version.h"
#include "engine/tokenizer/unicode.h"
#include "server/create_context_call.h"
#include "server/eviction_metadata.h"
#include "server/grpc_status.h"
#include "server/inference_call.h"
#include "server/reply.h"

namespace lukv {
namespace {

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

grpc::Status NoContext(const std::string& id) {
  return ToGrpcStatus(absl::NotFoundError(absl::StrCat("there is no context with context_id \"", id, "\"")),
                      "NO_CONTEXT");
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

grpc::Status InferenceService::Enter(const grpc::CallbackServerContext& context, Caller& caller) const {
  grpc::Status status = gate_->Enter(context, caller);
  if (!status.ok()) metrics_->OnRefused("unauthenticated");
  return status;
}

grpc::Status InferenceService::Begin(grpc::CallbackServerContext& context, const Caller& caller,
                                     CallOrigin& origin) const {
  grpc::Status status = MakeOrigin(context, caller, origin);
  if (!status.ok()) metrics_->OnRefused("key_limit");
  return status;
}

grpc::Status InferenceService::Queue(CallOrigin& origin, const ValidRequest& request) const {
  grpc::Status status = Gate::Queue(origin.key, static_cast<int64_t>(request.prompt.size()));
  if (!status.ok()) metrics_->OnRefused("key_limit");
  return status;
}

grpc::Status InferenceService::Admit(const grpc::CallbackServerContext& context, Caller& caller) const {
  // First: who has no key learns nothing.
  if (grpc::Status status = Enter(context, caller); !status.ok()) return status;
  grpc::Status open = Open();
  if (!open.ok()) metrics_->OnRefused("unavailable");
  return open;
}

grpc::Status InferenceService::Open() const {
  switch (state_.load()) {
    case State::kLoading:
      return ToGrpcStatus(absl::UnavailableError("the model is being loaded"), "MODEL_LOADING");
    case State::kServing:
      return grpc::Status::OK;
    case State::kClosed:
      return ToGrpcStatus(absl::UnavailableError("the server is shutting down"), "SHUTTING_DOWN");
  }
  return grpc::Status::OK;
}

CallContext InferenceService::Calls() {
  return {.engine = model_.engine.get(),
          .tokenizer = model_.tokenizer.get(),
          .executor = executor_.get(),
          .registry = &registry_,
          .metrics = metrics_};
}

std::string InferenceService::NextRequestId() { return absl::StrCat("lukv-", next_id_++); }

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                                           const v1::GenerateRequest* request) {
  using Response = v1::GenerateResponse;
  Caller caller;
  CallOrigin origin;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return RefuseCall<Response>(status);
  if (grpc::Status status = Begin(*context, caller, origin); !status.ok()) return RefuseCall<Response>(status);
  std::shared_ptr<const StoredContext> stored;
  if (request->context_case() == v1::GenerateRequest::kContextId) {
    stored = contexts_.Find(caller.tenant, request->context_id());
    if (stored == nullptr) {
      metrics_->OnRefused("no_context");
      return RefuseCall<Response>(NoContext(request->context_id()));
    }
  }
  auto input = WithEvictionOf(*context, limits_, [&](const RequestLimits& limits) {
    return ValidateGenerate(*request, limits, NextRequestId(), stored.get());
  });
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&input)) {
    metrics_->OnRefused("invalid_request");
    return RefuseCall<Response>(BadRequestStatus(*violations));
  }
  auto& valid = std::get<GenerateInput>(input);
  valid.request.tenant = caller.tenant;
  valid.request.deadline = absl::FromChrono(context->deadline());
  if (grpc::Status status = Queue(origin, valid.request); !status.ok()) return RefuseCall<Response>(status);
  return StartCall<InferenceCall>(Calls(), std::move(valid), std::move(origin));
}

grpc::ServerUnaryReactor* InferenceService::CreateContext(grpc::CallbackServerContext* context,
                                                          const v1::CreateContextRequest* request,
                                                          v1::CreateContextResponse* response) {
  Caller caller;
  CallOrigin origin;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return Reply(context, status);
  if (grpc::Status status = Begin(*context, caller, origin); !status.ok()) return Reply(context, status);
  auto input = WithEvictionOf(*context, limits_, [&](const RequestLimits& limits) {
    return ValidateCreateContext(*request, limits, absl::StrCat("lukv-context-", next_id_++));
  });
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&input)) {
    metrics_->OnRefused("invalid_request");
    return Reply(context, BadRequestStatus(*violations));
  }
  auto& valid = std::get<ContextInput>(input);
  valid.request.tenant = caller.tenant;
  if (grpc::Status status = Queue(origin, valid.request); !status.ok()) return Reply(context, status);
  valid.request.deadline = absl::FromChrono(context->deadline());
  const absl::Status reserved =
      contexts_.Reserve(valid.context_id, {.key = {.tenant = valid.request.tenant,
                                                   .policy = PlanPolicyName(valid.request.plan.get()),
                                                   .tokens = valid.request.prompt},
                                           .plan = valid.request.plan,
                                           .policy = valid.policy,
                                           .expiry = valid.request.shared_context->pinned_until});
  if (!reserved.ok()) return Reply(context, ToGrpcStatus(reserved, "DUPLICATE_CONTEXT_ID"));
  const ContextCallParts parts{
      .engine = model_.engine.get(), .executor = executor_.get(), .registry = &registry_, .directory = &contexts_};
  return CreateContextCall::Start(parts, std::move(valid), std::move(origin.key), response);
}

grpc::ServerUnaryReactor* InferenceService::DeleteContext(grpc::CallbackServerContext* context,
                                                          const v1::DeleteContextRequest* request,
                                                          v1::DeleteContextResponse* /*response*/) {
  Caller caller;
  if (grpc::Status status = Admit(*context, caller); !status.ok()) return Reply(context, status);
  const std::shared_ptr<const StoredContext> removed = contexts_.Remove(caller.tenant, request->context_id());
  if (removed == nullptr) return Reply(context, NoContext(request->context_id()));
  // Whether its pages are there still is the engine's business.
  model_.engine->ReleaseContext(removed->key);
  return Reply(context, grpc::Status::OK);
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
