// What the service grpc.health.v1.Health says, the same on every address that has it.
#pragma once

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>

#include <vector>

namespace lukv {

// Set* may be called by any thread.
class Health {
 public:
  // Before any Set*. The servers must outlive the last call.
  void Add(grpc::Server& server) { services_.push_back(server.GetHealthCheckService()); }

  // Of the empty name: whether the process is any good. Not to be is a reason to kill it.
  void SetAlive(bool alive);
  // Of the inference services: whether they take requests.
  void SetReady(bool ready);

 private:
  std::vector<grpc::HealthCheckServiceInterface*> services_;
};

}  // namespace lukv
