// vllm.grpc.engine.VllmEngine, the protocol of gateways, beside lukv.v1 on the same server.
#pragma once

#include <atomic>
#include <cstdint>
#include <unordered_set>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/inference_service.h"
#include "server/metrics.h"
#include "server/rate_meter.h"
#include "vllm_engine.grpc.pb.h"

namespace lukv {

// Serves the model of an InferenceService as long as that does; its Generate calls are calls of that one.
class VllmService final : public vllm::grpc::engine::VllmEngine::CallbackService {
 public:
  // Both must outlive the service.
  VllmService(InferenceService* inference, Metrics* metrics) : inference_(*inference), metrics_(*metrics) {}

  // Ends the streams that would stay open for ever. To be called when `inference` was closed.
  void Close();

  grpc::ServerWriteReactor<vllm::grpc::engine::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const vllm::grpc::engine::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const vllm::grpc::engine::EmbedRequest* request,
                                  vllm::grpc::engine::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* HealthCheck(grpc::CallbackServerContext* context,
                                        const vllm::grpc::engine::HealthCheckRequest* request,
                                        vllm::grpc::engine::HealthCheckResponse* response) override;
  grpc::ServerUnaryReactor* FlushCache(grpc::CallbackServerContext* context,
                                       const smg::grpc::common::FlushCacheRequest* request,
                                       smg::grpc::common::FlushCacheResponse* response) override;
  grpc::ServerUnaryReactor* StartProfile(grpc::CallbackServerContext* context,
                                         const smg::grpc::common::StartProfileRequest* request,
                                         smg::grpc::common::ProfileResponse* response) override;
  grpc::ServerUnaryReactor* StopProfile(grpc::CallbackServerContext* context,
                                        const smg::grpc::common::StopProfileRequest* request,
                                        smg::grpc::common::ProfileResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context, const vllm::grpc::engine::AbortRequest* request,
                                  vllm::grpc::engine::AbortResponse* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const vllm::grpc::engine::GetModelInfoRequest* request,
                                         vllm::grpc::engine::GetModelInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const vllm::grpc::engine::GetServerInfoRequest* request,
                                          vllm::grpc::engine::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetLoads(grpc::CallbackServerContext* context,
                                     const vllm::grpc::engine::GetLoadsRequest* request,
                                     vllm::grpc::engine::GetLoadsResponse* response) override;
  grpc::ServerWriteReactor<smg::grpc::common::GetTokenizerChunk>* GetTokenizer(
      grpc::CallbackServerContext* context, const smg::grpc::common::GetTokenizerRequest* request) override;
  grpc::ServerWriteReactor<smg::grpc::common::KvEventBatch>* SubscribeKvEvents(
      grpc::CallbackServerContext* context, const smg::grpc::common::SubscribeKvEventsRequest* request) override;

 private:
  class Subscription;

  InferenceService& inference_;
  Metrics& metrics_;
  const absl::Time start_ = absl::Now();
  std::atomic<int64_t> last_receive_ = 0;  // Unix time in microseconds.
  RateMeter throughput_;
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<Subscription*> subscriptions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lukv
