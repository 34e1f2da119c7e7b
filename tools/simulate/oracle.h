// What a request yields alone: on a server of the same model with room for everything, one request at a time, on which
// nothing fails.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/simulate/simulated_server.h"
#include "tools/simulate/workload.h"

namespace lukv {

// [sample][token]
using SampleTokens = std::vector<std::vector<TokenId>>;

// A turn of a conversation that took place.
struct PastTurn {
  PlannedRequest planned;
  int32_t generated = 0;  // Tokens, and
  int32_t counted = 0;    // those that its client let count: fewer where it saw a stop string.
  bool ended_by_client = false;
};

class Oracle {
 public:
  // For requests of the scenario's server.
  explicit Oracle(const Scenario& scenario);

  // Of a request that goes on from the turns before it, if there are any; whatever else was asked leaves it untouched.
  SampleTokens Alone(const std::vector<PastTurn>& before, const PlannedRequest& planned);

 private:
  SampleTokens Run(Ticket ticket, const PastTurn& turn, const std::string& tenant);

  VirtualClock clock_;
  std::unique_ptr<SimulatedServer> server_;
  Ticket last_ticket_ = 0;
};

}  // namespace lukv
