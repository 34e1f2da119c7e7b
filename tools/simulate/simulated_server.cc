#include "tools/simulate/simulated_server.h"

#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "engine/engine_parts.h"

namespace lukv {

absl::StatusOr<std::unique_ptr<SimulatedServer>> SimulatedServer::Start(const ServerSettings& settings,
                                                                        VirtualClock& clock) {
  std::unique_ptr<WeightSource> weights = MakeModelledWeights(settings.shape);
  EngineOptions options = settings.engine;
  options.kv_memory_bytes =
      settings.pages * ModelRunner::PageBytes(weights->config(), options.kv_dtype, options.page_tokens);
  auto backend = settings.make_backend != nullptr
                     ? settings.make_backend(settings.times, settings.faults, clock)
                     : std::make_unique<ModelledBackend>(settings.times, settings.faults, clock);
  auto server = std::unique_ptr<SimulatedServer>(new SimulatedServer());
  server->backend_ = backend.get();
  LUKV_ASSIGN_OR_RETURN(EngineParts parts, MakeEngineParts(std::move(weights), std::move(backend), options));
  parts.curves = MakeModelledCurves(parts.model->config, parts.fingerprint);
  server->runner_ = parts.runner.get();
  server->core_ = std::make_unique<EngineCore>(std::move(parts), std::vector<TokenId>{kSimulatedEnd}, options, clock);
  server->backend_->ArmFaults();
  return server;
}

SimulatedServer::~SimulatedServer() {
  if (core_ != nullptr) core_->EndAll(absl::CancelledError("the server stops"));
}

}  // namespace lukv
