// One request on its way.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "lukv/v1/inference.grpc.pb.h"
#include "tools/load/connections.h"
#include "tools/load/plan.h"
#include "tools/load/record.h"

namespace lukv {

// Seconds since the run's start.
class RunClock {
 public:
  double Now() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Owns itself from Start() until `on_done` has been called.
class LoadCall final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  // Called once, on a thread of gRPC's; the call is still there.
  using Report = std::function<void(LoadCall*, RequestRecord)>;

  // `due`: when it was to be sent.
  LoadCall(PlannedRequest plan, const LoadOptions& options, std::shared_ptr<Connection> connection,
           const RunClock& clock, double due, Report on_done);

  void Start();
  // Any thread. Its client wants no more of it. REQUIRES: on_done has not returned; so does GiveUp.
  void Cancel();
  // It has not ended and should have.
  void GiveUp();

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  void Classify(const grpc::Status& status);

  const PlannedRequest plan_;
  const absl::Duration slow_pause_;
  const std::shared_ptr<Connection> connection_;
  const RunClock& clock_;
  const Report on_done_;
  v1::GenerateRequest request_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  grpc::Alarm pause_;
  RequestRecord record_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> given_up_ = false;
};

}  // namespace lukv
