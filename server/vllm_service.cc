#include "server/vllm_service.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/sha256.h"
#include "base/version.h"
#include "server/eviction_metadata.h"
#include "server/grpc_status.h"
#include "server/model_class.h"
#include "server/reply.h"
#include "server/vllm_call.h"
#include "server/vllm_request.h"

namespace lukv {
namespace {

namespace pb = vllm::grpc::engine;
namespace common = smg::grpc::common;

// Well below the 4 MiB that gRPC clients accept by default.
constexpr size_t kTokenizerChunkBytes = 256 << 10;

grpc::ServerUnaryReactor* Unsupported(grpc::CallbackServerContext* context, const char* what) {
  return Reply(context, ToGrpcStatus(absl::UnimplementedError(absl::StrCat(what, " is not supported"))));
}

// Sends bytes that outlive the call.
class TokenizerStream final : public grpc::ServerWriteReactor<common::GetTokenizerChunk> {
 public:
  explicit TokenizerStream(std::string_view zip) : rest_(zip), sha256_(HexSha256(zip)) { Next(); }

  void OnWriteDone(bool ok) override {
    if (ok) {
      Next();
    } else {
      Finish(ToGrpcStatus(absl::CancelledError("nobody reads")));
    }
  }
  void OnDone() override { delete this; }

 private:
  void Next() {
    const std::string_view data = rest_.substr(0, kTokenizerChunkBytes);
    rest_.remove_prefix(data.size());
    chunk_.set_data(data.data(), data.size());
    if (!rest_.empty()) {
      StartWrite(&chunk_);
      return;
    }
    chunk_.set_sha256(sha256_);
    StartWriteAndFinish(&chunk_, grpc::WriteOptions(), grpc::Status::OK);
  }

  std::string_view rest_;
  const std::string sha256_;
  common::GetTokenizerChunk chunk_;
};

}  // namespace

// Open until the client goes or the service closes.
class VllmService::Subscription final : public grpc::ServerWriteReactor<common::KvEventBatch> {
 public:
  explicit Subscription(VllmService* service) : service_(service) {
    // Clients wait for them before they take the stream for open.
    StartSendInitialMetadata();
  }

  // Once each; the second does nothing.
  void End(const grpc::Status& status) {
    if (!ended_.exchange(true)) Finish(status);
  }
  void OnCancel() override { End(ToGrpcStatus(absl::CancelledError("the client cancelled"))); }
  void OnDone() override {
    {
      MutexLock lock(&service_->mutex_);
      service_->subscriptions_.erase(this);
    }
    delete this;
  }

 private:
  VllmService* const service_;
  std::atomic<bool> ended_ = false;
};

void VllmService::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
  // OnDone needs the lock, so none of them goes away here.
  for (Subscription* subscription : subscriptions_) subscription->End(inference_.Open());
}

grpc::ServerWriteReactor<pb::GenerateResponse>* VllmService::Generate(grpc::CallbackServerContext* context,
                                                                      const pb::GenerateRequest* request) {
  using Response = pb::GenerateResponse;
  last_receive_ = absl::ToUnixMicros(absl::Now());
  Caller caller;
  CallOrigin origin;
  if (grpc::Status status = inference_.Admit(*context, caller); !status.ok()) return RefuseCall<Response>(status);
  if (grpc::Status status = inference_.Begin(*context, caller, origin); !status.ok()) {
    return RefuseCall<Response>(status);
  }
  if (const absl::Status supported = CheckSupported(*request); !supported.ok()) {
    metrics_.OnRefused("unsupported");
    return RefuseCall<Response>(ToGrpcStatus(supported));
  }
  auto input = WithEvictionOf(*context, inference_.limits(), [&](const RequestLimits& limits) {
    return ValidateVllmGenerate(*request, limits, inference_.NextRequestId());
  });
  if (const auto* violations = std::get_if<std::vector<FieldViolation>>(&input)) {
    metrics_.OnRefused("invalid_request");
    return RefuseCall<Response>(BadRequestStatus(*violations));
  }
  auto& valid = std::get<GenerateInput>(input);
  valid.request.deadline = absl::FromChrono(context->deadline());
  valid.request.tenant = caller.tenant;
  if (grpc::Status status = inference_.Queue(origin, valid.request); !status.ok()) return RefuseCall<Response>(status);
  return StartCall<VllmCall>(inference_.Calls(), std::move(valid), std::move(origin), request->stream());
}

grpc::ServerUnaryReactor* VllmService::Embed(grpc::CallbackServerContext* context, const pb::EmbedRequest* /*request*/,
                                             pb::EmbedResponse* /*response*/) {
  return Unsupported(context, "Embed");
}

grpc::ServerUnaryReactor* VllmService::FlushCache(grpc::CallbackServerContext* context,
                                                  const common::FlushCacheRequest* /*request*/,
                                                  common::FlushCacheResponse* /*response*/) {
  return Unsupported(context, "FlushCache");
}

grpc::ServerUnaryReactor* VllmService::StartProfile(grpc::CallbackServerContext* context,
                                                    const common::StartProfileRequest* /*request*/,
                                                    common::ProfileResponse* /*response*/) {
  return Unsupported(context, "StartProfile");
}

grpc::ServerUnaryReactor* VllmService::StopProfile(grpc::CallbackServerContext* context,
                                                   const common::StopProfileRequest* /*request*/,
                                                   common::ProfileResponse* /*response*/) {
  return Unsupported(context, "StopProfile");
}

grpc::ServerUnaryReactor* VllmService::HealthCheck(grpc::CallbackServerContext* context,
                                                   const pb::HealthCheckRequest* /*request*/,
                                                   pb::HealthCheckResponse* response) {
  Caller caller;
  const grpc::Status status = inference_.Admit(*context, caller);
  response->set_healthy(status.ok());
  response->set_message("serving");
  return Reply(context, status);
}

grpc::ServerUnaryReactor* VllmService::Abort(grpc::CallbackServerContext* context, const pb::AbortRequest* request,
                                             pb::AbortResponse* /*response*/) {
  Caller caller;
  // While the server drains, too: that is when a client may want to be rid of what still runs.
  if (grpc::Status status = inference_.Enter(*context, caller); !status.ok()) return Reply(context, status);
  for (const std::string& id : request->request_ids()) {
    inference_.registry().Abort(caller.tenant, id, absl::CancelledError("aborted"));
  }
  return Reply(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* VllmService::GetModelInfo(grpc::CallbackServerContext* context,
                                                    const pb::GetModelInfoRequest* /*request*/,
                                                    pb::GetModelInfoResponse* response) {
  Caller caller;
  if (grpc::Status status = inference_.Admit(*context, caller); !status.ok()) return Reply(context, status);
  const ServedModel& model = inference_.model();
  const ModelInfo& info = model.engine->info();
  const Tokenizer& tokenizer = *model.tokenizer;
  response->set_model_path(model.path);
  response->set_is_generation(true);
  response->set_max_context_length(static_cast<uint32_t>(info.max_context));
  response->set_vocab_size(static_cast<uint32_t>(tokenizer.vocabulary()));
  response->set_served_model_name(model.name);
  response->set_tokenizer_path(model.path);
  response->set_model_type(info.config.architecture);
  response->add_architectures(ModelClass(info.config.architecture));
  response->mutable_eos_token_ids()->Assign(tokenizer.end_tokens().begin(), tokenizer.end_tokens().end());
  response->set_bos_token_id(std::max(tokenizer.bos(), 0));
  response->set_max_req_input_len(info.max_context - 1);
  return Reply(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* VllmService::GetServerInfo(grpc::CallbackServerContext* context,
                                                     const pb::GetServerInfoRequest* /*request*/,
                                                     pb::GetServerInfoResponse* response) {
  Caller caller;
  if (grpc::Status status = inference_.Admit(*context, caller); !status.ok()) return Reply(context, status);
  const ServedModel& model = inference_.model();
  const EngineStats stats = model.engine->Stats();
  response->set_active_requests(static_cast<uint32_t>(stats.running + stats.waiting));
  response->set_last_receive_timestamp(static_cast<double>(last_receive_.load()) / 1e6);
  response->set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - start_));
  response->set_server_type("lukv");
  response->set_data_parallel_size(1);
  response->set_kv_cache_dtype(absl::AsciiStrToLower(std::string(Traits(model.engine->info().kv_dtype).name)));
  response->set_block_size(model.page_tokens);
  response->set_max_num_seqs(model.max_sequences);
  return Reply(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* VllmService::GetLoads(grpc::CallbackServerContext* context,
                                                const pb::GetLoadsRequest* request, pb::GetLoadsResponse* response) {
  Caller caller;
  if (grpc::Status status = inference_.Admit(*context, caller); !status.ok()) return Reply(context, status);
  const ServedModel& model = inference_.model();
  const EngineStats stats = model.engine->Stats();
  const absl::Time now = absl::Now();
  response->set_timestamp(absl::FormatTime(absl::RFC3339_sec, now, absl::UTCTimeZone()));
  response->set_version(kVersion);
  response->set_dp_rank_count(1);
  if (request->has_dp_rank() && request->dp_rank() != 0) return Reply(context, grpc::Status::OK);
  const auto part = [](double of, double whole) { return whole > 0 ? of / whole : 0; };
  const int64_t in_use = int64_t{stats.pages_used};
  const auto tokens = [&](int64_t pages) {
    const int64_t per_token = model.engine->info().kv_bytes_per_token;
    return per_token > 0 ? static_cast<int32_t>(pages * stats.page_bytes / per_token) : 0;
  };
  pb::SchedulerLoad& load = *response->add_loads();
  load.set_num_running_reqs(stats.running);
  load.set_num_waiting_reqs(stats.waiting);
  load.set_num_total_reqs(stats.running + stats.waiting);
  load.set_num_used_tokens(tokens(in_use));
  load.set_max_total_num_tokens(tokens(stats.pages_total));
  load.set_token_usage(part(static_cast<double>(in_use), stats.pages_total));
  load.set_gen_throughput(throughput_.Rate(now, stats.generated_tokens));
  load.set_cache_hit_rate(
      part(static_cast<double>(stats.cache_hit_tokens), static_cast<double>(stats.cache_query_tokens)));
  load.set_utilization(part(stats.running, model.max_sequences));
  load.set_max_running_requests(model.max_sequences);
  load.set_num_waiting_uncached_tokens(static_cast<int32_t>(stats.waiting_tokens));
  return Reply(context, grpc::Status::OK);
}

grpc::ServerWriteReactor<common::GetTokenizerChunk>* VllmService::GetTokenizer(
    grpc::CallbackServerContext* context, const common::GetTokenizerRequest* /*request*/) {
  using Chunk = common::GetTokenizerChunk;
  Caller caller;
  if (grpc::Status status = inference_.Admit(*context, caller); !status.ok()) return RefuseCall<Chunk>(status);
  const absl::StatusOr<std::string>& zip = inference_.model().tokenizer_zip;
  if (!zip.ok()) return RefuseCall<Chunk>(ToGrpcStatus(zip.status()));
  return new TokenizerStream(*zip);
}

grpc::ServerWriteReactor<common::KvEventBatch>* VllmService::SubscribeKvEvents(
    grpc::CallbackServerContext* context, const common::SubscribeKvEventsRequest* /*request*/) {
  using Batch = common::KvEventBatch;
  Caller caller;
  if (grpc::Status status = inference_.Admit(*context, caller); !status.ok()) return RefuseCall<Batch>(status);
  auto* subscription = new Subscription(this);
  MutexLock lock(&mutex_);
  subscriptions_.insert(subscription);
  if (closed_) subscription->End(inference_.Open());
  return subscription;
}

}  // namespace lukv
