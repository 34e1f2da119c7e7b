// One server of a simulation: the engine core of production on a modelled device. Who runs it, on which clock and with
// which requests is up to others; several servers that are to run side by side have a clock each.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine_core.h"
#include "tools/simulate/modelled_backend.h"
#include "tools/simulate/modelled_model.h"
#include "tools/simulate/virtual_clock.h"

namespace lukv {

struct ServerSettings {
  ModelledShape shape;
  int32_t pages = 0;  // Of the KV cache; in place of engine.kv_memory_bytes.
  EngineOptions engine;
  ModelledTimes times;
  ModelledFaults faults;
  // The device, if it is another than a ModelledBackend as it is: tests plant bugs in it.
  std::function<std::unique_ptr<ModelledBackend>(const ModelledTimes&, ModelledFaults, VirtualClock&)> make_backend;
};

// The end token of every simulated model.
inline constexpr TokenId kSimulatedEnd = 0;

class SimulatedServer {
 public:
  // `clock` must outlive it.
  static absl::StatusOr<std::unique_ptr<SimulatedServer>> Start(const ServerSettings& settings, VirtualClock& clock);

  ~SimulatedServer();
  SimulatedServer(const SimulatedServer&) = delete;
  SimulatedServer& operator=(const SimulatedServer&) = delete;

  EngineCore& core() { return *core_; }
  const ModelledBackend& backend() const { return *backend_; }
  // What the core runs on, for who looks at pages.
  ModelRunner& runner() { return *runner_; }

 private:
  SimulatedServer() = default;

  // Of the core's parts.
  ModelledBackend* backend_ = nullptr;
  ModelRunner* runner_ = nullptr;
  std::unique_ptr<EngineCore> core_;
};

}  // namespace lukv
