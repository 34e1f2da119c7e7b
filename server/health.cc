#include "server/health.h"

namespace lukv {
namespace {

// Ready together.
constexpr const char* kServiceNames[] = {"lukv.v1.Inference", "vllm.grpc.engine.VllmEngine"};

}  // namespace

void Health::SetAlive(bool alive) {
  for (grpc::HealthCheckServiceInterface* service : services_) service->SetServingStatus("", alive);
}

void Health::SetReady(bool ready) {
  for (grpc::HealthCheckServiceInterface* service : services_) {
    for (const char* name : kServiceNames) service->SetServingStatus(name, ready);
  }
}

}  // namespace lukv
